"""Thin wrappers of system calls, in the kernel's own names, with no policy."""
