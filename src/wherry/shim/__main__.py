"""The spawner's program: `python -I -S …/wherry/shim/__main__.py FD`. -S hides our own root: put it back."""

import sys
from os.path import abspath, dirname

if __name__ == "__main__":
    sys.path.insert(0, dirname(dirname(dirname(abspath(__file__)))))
    from wherry.shim.spawner import run_spawner

    run_spawner(int(sys.argv[1]))
