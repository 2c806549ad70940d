"""Read-only layers and writable snapshots behind one interface with one conformance suite."""
