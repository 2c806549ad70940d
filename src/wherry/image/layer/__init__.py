"""Layers: apply a tar, write a diff, whiteouts, the EROFS index."""
