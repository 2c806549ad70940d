"""The program that `lib.program.run_worker` starts: one confined piece of bulk work, then its end.

Started as `python -I -S worker.py` with the folders to import from as arguments. It reads one JSON
line from stdin (`target`, `arguments`, `nice`), imports the target's module, calls the function and
writes JSON lines to stdout: any number of `progress`, then one `result` or `error`. The target's
module imports all it will use at its top, so that nothing is imported once the function has entered
an untrusted root (`forbid_imports`).
"""

from __future__ import annotations

import builtins
import importlib
import json
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from wherry.lib.jsonvalue import JsonObject, JsonValue, get_bool, get_str

Report = Callable[[JsonValue], None]

_MESSAGES_FD = 1


def forbid_imports() -> None:
    """From here on nothing is imported: the files that an import finds are no longer ours.

    Codecs are looked up before, since `encodings` imports them lazily.
    """
    for codec in ("utf-8", "ascii", "latin-1", "idna", "unicode_escape", "raw_unicode_escape"):
        "".encode(codec)
    sys.path[:] = []
    sys.meta_path[:] = []
    sys.path_hooks[:] = []
    builtins.__import__ = _refuse_import


def _refuse_import(name: str, *_: object, **__: object) -> NoReturn:
    raise ImportError(f"import of {name} inside an untrusted root")


def _send(kind: str, value: JsonValue) -> None:
    line = json.dumps({kind: value}, separators=(",", ":")).encode() + b"\n"
    view = memoryview(line)
    while view:
        view = view[os.write(_MESSAGES_FD, view) :]


def _describe(error: BaseException) -> JsonObject:
    number = error.errno if isinstance(error, OSError) else None
    kind = "OSError" if isinstance(error, OSError) else type(error).__name__
    return {"kind": kind, "message": str(error) or type(error).__name__, "errno": number}


def _read_request() -> JsonObject:
    with os.fdopen(0, "rb", closefd=False) as stream:
        request = json.loads(stream.readline())
    if not isinstance(request, dict):
        raise TypeError("the request is not an object")
    return request


def main() -> None:
    """Runs the one request of this process."""
    request = _read_request()
    if get_bool(request, "nice"):
        # An I/O class of "none" takes its priority from nice (ioprio_set(2)), so that this lowers both.
        os.nice(10)
    try:
        module_name, _, function_name = get_str(request, "target").partition(":")
        function = getattr(importlib.import_module(module_name), function_name)
        result = function(request.get("arguments"), lambda value: _send("progress", value))
        message: tuple[str, JsonValue] = ("result", result)
    except Exception as error:  # noqa: BLE001 - the edge of this process: the parent rebuilds the error
        message = ("error", _describe(error))
    _send(*message)


if __name__ == "__main__":
    main()
