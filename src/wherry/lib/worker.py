"""The program that `lib.program` starts: one confined piece of bulk work, then its end.

Started as `python -I -S worker.py` with the folders to import from as arguments. It reads one JSON
line from stdin (`target`, `arguments`, `nice`, `again`), imports the target's module, calls the function and
writes JSON lines to stdout: any number of `progress`, then one `result` or `error`. With `again` it
waits for a further line, until stdin ends. The target's module imports all it will use at its top, so that nothing is imported once the function has entered
an untrusted root (`forbid_imports`).
"""

from __future__ import annotations

import builtins
import gc
import importlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import IO

from wherry.lib.jsonvalue import JsonObject, JsonValue, get_bool, get_str

Report = Callable[[JsonValue], None]

PARENT = "WHERRY_PARENT"  # in the environment: the process that started this one

_MESSAGES_FD = 1


def is_orphan() -> bool:
    """Whether the process that started this worker has ended already."""
    return os.getppid() != int(os.environ[PARENT])


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


def _refuse_import(
    name: str,
    globals: object = None,  # noqa: A002, ARG001 - the names that Python passes
    locals: object = None,  # noqa: A002, ARG001 - the names that Python passes
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> ModuleType:
    """What `import` does from then on: a module that is loaded is only a name, no file is looked for."""
    if level == 0 and name in sys.modules:
        return sys.modules[name if fromlist else name.partition(".")[0]]
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


def _read_request(stream: IO[bytes]) -> JsonObject | None:
    line = stream.readline()
    if not line:
        return None
    request = json.loads(line)
    if not isinstance(request, dict):
        raise TypeError("the request is not an object")
    return request


def _answer(request: JsonObject) -> tuple[str, JsonValue]:
    try:
        module_name, _, function_name = get_str(request, "target").partition(":")
        function = getattr(importlib.import_module(module_name), function_name)
        return "result", function(request.get("arguments"), lambda value: _send("progress", value))
    except Exception as error:  # noqa: BLE001 - the edge of this process: the parent rebuilds the error
        return "error", _describe(error)


def main() -> None:
    """Answers the requests of this process: one, unless it is kept."""
    stream = os.fdopen(0, "rb", closefd=False)
    is_first = True
    while (request := _read_request(stream)) is not None:
        if is_first and get_bool(request, "nice"):
            # An I/O class of "none" takes its priority from nice (ioprio_set(2)), so that this lowers both.
            os.nice(10)
        is_first = False
        try:
            _send(*_answer(request))
        except BrokenPipeError:
            return  # the engine has gone, nobody is left to tell
        if not get_bool(request, "again"):
            return
        # Functions switch the collector off for their own sake; between them is the time for it.
        gc.collect()


if __name__ == "__main__":
    main()
