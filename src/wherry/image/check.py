"""Re-hashes what is on disk, in a worker: every blob, and every layer's tar and index."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from wherry.image.content import ContentStore
from wherry.image.layer.build import read_tree
from wherry.image.layer.erofs import build_index
from wherry.image.layer.mount import INDEX_NAME, TAR_NAME
from wherry.image.layer.record import EROFS, TREE_NAME, read_record
from wherry.lib.jsonvalue import JsonValue, get_str
from wherry.lib.tar.reader import TarReader
from wherry.lib.worker import Report

_PIECE = 1 << 20


def check(arguments: JsonValue, report: Report) -> JsonValue:
    """Looks at everything below `root`; returns a list of sentences about what is wrong."""
    if not isinstance(arguments, dict):
        raise TypeError("the arguments are not an object")
    root = Path(get_str(arguments, "root"))
    problems: list[str] = []
    content = ContentStore(root)
    for digest in content.digests():
        report({"checking": digest})
        try:
            if not content.verify(digest):
                problems.append(f"blob {digest} is damaged: its digest does not match")
        except OSError as error:
            problems.append(f"blob {digest} cannot be read: {error.strerror}")
    for folder in sorted((root / "layers").iterdir()):
        if folder.name.startswith("."):
            continue
        report({"checking": folder.name})
        try:
            problem = _check_layer(folder)
        except (OSError, ValueError) as error:
            problem = str(error)
        if problem:
            problems.append(f"layer {folder.name}: {problem}")
    return problems


def _check_layer(folder: Path) -> str:
    record = read_record(folder)
    if record.key != folder.name:
        return "its record is another layer's"
    if record.driver != EROFS:
        return "" if (folder / TREE_NAME).is_dir() else "its tree is missing"
    running = hashlib.sha256()
    with (folder / TAR_NAME).open("rb", buffering=0) as tar:
        while piece := tar.read(_PIECE):
            running.update(piece)
        if running.hexdigest() != record.key:
            return "its tar is damaged: its digest does not match"
        tar.seek(0)
        tree = read_tree(TarReader(lambda count: tar.read(count) or b""))
        size = os.fstat(tar.fileno()).st_size
    if build_index(tree, size) != (folder / INDEX_NAME).read_bytes():
        return "its index does not fit its tar"
    return ""
