"""The verbs of `wherry volume`, one file each."""
