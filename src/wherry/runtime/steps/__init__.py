"""One step of a container's set-up per file: `describe` and `apply`."""
