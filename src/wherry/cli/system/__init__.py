"""The verbs of `wherry system`, one file each."""
