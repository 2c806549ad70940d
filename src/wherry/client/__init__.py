"""Engine API client over unix sockets and TCP; also the public Python SDK."""
