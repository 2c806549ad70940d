"""Addresses, endpoints, port maps and firewall of container networks."""
