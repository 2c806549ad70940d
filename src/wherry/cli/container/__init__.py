"""The verbs of `wherry container`, one file each."""
