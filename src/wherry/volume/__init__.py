"""Named volumes behind one driver interface."""
