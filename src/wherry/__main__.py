"""`python -m wherry`: the command line where its launcher is not in reach."""

from __future__ import annotations

from wherry.cli.main import main

main()
