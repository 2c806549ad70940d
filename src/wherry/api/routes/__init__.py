"""Route tables and thin handlers, a file per noun: decode, call the service, encode."""
