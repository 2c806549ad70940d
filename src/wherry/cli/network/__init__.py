"""The verbs of `wherry network`, one file each."""
