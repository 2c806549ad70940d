import sys

import greeting

sys.stdout.write(greeting.greet("python") + "\n")
