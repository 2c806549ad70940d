"""The verbs of `wherry image`, one file each."""
