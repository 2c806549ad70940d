"""Tar archives as streams: a reader and a writer that know every dialect met in image layers."""
