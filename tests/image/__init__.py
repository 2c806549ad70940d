"""Images, layers and snapshots for real, as root."""
