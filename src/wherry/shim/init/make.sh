#!/bin/sh
# Compiles init.c for each machine and writes ../builtin_init.py. Wants gcc and gcc-aarch64-linux-gnu.
set -eu
cd "$(dirname "$0")"
scratch=$(mktemp -d)
trap 'rm -r "$scratch"' EXIT
for pair in x86_64: aarch64:aarch64-linux-gnu-; do
  machine=${pair%%:*}
  tool=${pair#*:}
  "${tool}gcc" -Os -Wall -Wextra -Werror -nostdlib -static -ffreestanding -fno-pic -no-pie \
    -fno-stack-protector -fno-asynchronous-unwind-tables -fomit-frame-pointer \
    -Wl,--build-id=none -Wl,-z,noseparate-code -Wl,-z,max-page-size=65536 -Wl,-z,noexecstack \
    init.c -o "$scratch/$machine"
  "${tool}strip" --strip-all -R .comment "$scratch/$machine"
done
python3 - "$scratch" ../builtin_init.py <<'PROGRAM'
import base64, pathlib, re, sys, textwrap, zlib
table = ""
for machine in ("aarch64", "x86_64"):
    code = base64.b85encode(zlib.compress(pathlib.Path(sys.argv[1], machine).read_bytes(), 9)).decode()
    lines = "\n".join(f'        r"{line}"' for line in textwrap.wrap(code, 88, break_on_hyphens=False))
    table += f'    "{machine}": (\n{lines}\n    ),\n'
module = pathlib.Path(sys.argv[2])
text = module.read_text()
module.write_text(re.sub(r"(?s)(_PROGRAMS = \{\n).*?(\n\})", lambda m: m[1] + table.rstrip("\n") + m[2], text))
PROGRAM
