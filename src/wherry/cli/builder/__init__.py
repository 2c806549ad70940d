"""The verbs of `wherry builder`, one file each."""
