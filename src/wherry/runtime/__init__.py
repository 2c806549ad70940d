"""The OCI runtime specification on Linux as an ordered plan of small steps."""
