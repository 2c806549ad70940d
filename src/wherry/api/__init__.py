"""HTTP in: server, router, version shims, streams. Handlers decode, call one engine method, encode."""
