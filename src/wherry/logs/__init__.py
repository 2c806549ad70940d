"""Container logs: line codec, json-file writer with rotation, reader."""
