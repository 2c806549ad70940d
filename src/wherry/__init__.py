"""wherry: a container engine for Linux, written in Python."""
