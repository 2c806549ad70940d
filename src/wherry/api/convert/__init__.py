"""Wire structs ↔ model records, pure, a file per noun."""
