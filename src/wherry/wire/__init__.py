"""Engine API JSON as msgspec structs, a file per noun. Shared by client and api, unknown to everything below."""
