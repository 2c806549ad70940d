"""Conformance suites: what every driver of a kind must pass."""
