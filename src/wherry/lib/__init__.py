"""Pure helpers that know nothing of containers."""
