"""Composition root of wherryd: configuration, wiring of all services, start and stop."""
