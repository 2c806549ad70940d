"""Benchmarks: ratios against other engines in one run, never absolute claims."""
