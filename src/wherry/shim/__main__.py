"""The spawner's program: `python -I -S …/wherry/shim/__main__.py spawner RUN FD`. RUN only tells people whose it is.

-S hides our own root from the interpreter: it is put back first.
"""

import sys
from os.path import abspath, dirname

if __name__ == "__main__":
    sys.path.insert(0, dirname(dirname(dirname(abspath(__file__)))))
    from wherry.shim.spawner import run_spawner

    run_spawner(sys.argv[-2], int(sys.argv[-1]))
