"""Frozen records and the error kinds that every layer above agrees on."""
