"""The life of containers: create, start, stop, exec, attach, inspect, and what survives a restart."""
