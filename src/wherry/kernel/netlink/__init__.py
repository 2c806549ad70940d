"""Netlink messages of the start path: codec, socket, links, addresses, routes."""
