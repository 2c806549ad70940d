"""The worker of COPY, ADD and WORKDIR: puts files into a step's root, and nowhere else.

The root is a detached overlay mount that only this process has; every path is resolved inside it by
`openat2(RESOLVE_IN_ROOT)`, and what is created is created below a directory's descriptor (`target`). Sources are
entries of a context's tar (`rows`), trees of stages and images (`tree`), archives (`archive`), files that were
downloaded, and inline texts. Rules are those of BuildKit's copier (tonistiigi/fsutil/copy).

Everything is imported before the first foreign file is read.
"""

from __future__ import annotations

import os

from wherry.build.ignore import compile_patterns
from wherry.engine.build.attributes import find_owner
from wherry.engine.build.copying.archive import unpack_if_archive
from wherry.engine.build.copying.rows import copy_from_tar, transfer
from wherry.engine.build.copying.target import Target, write_all
from wherry.engine.build.copying.tree import TreeCopier
from wherry.lib.jsonvalue import (
    JsonObject,
    JsonValue,
    get_bool,
    get_int,
    get_objects,
    get_str,
    get_strings,
)
from wherry.lib.worker import forbid_imports


def copy(arguments: JsonValue, report: object) -> JsonValue:
    """Runs the jobs of one step; answers the digest of what came from trees and the mount targets made."""
    del report
    if not isinstance(arguments, dict):
        raise TypeError("the arguments are not an object")
    os.umask(0)
    forbid_imports()
    target = Target(arguments)
    trees = TreeCopier(target, compile_patterns(get_strings(arguments, "excludes")))
    try:
        for job in get_objects(arguments, "jobs"):
            target.renew()
            _run(job, target, trees)
    finally:
        target.close()
    return {"digest": trees.content.hexdigest(), "count": target.count}


def _run(job: JsonObject, target: Target, trees: TreeCopier) -> None:
    match get_str(job, "kind"):
        case "tar":
            copy_from_tar(target, job)
        case "tree":
            trees.copy(job)
        case "inline":
            _write_inline(target, job)
        case "file":
            _copy_file(target, job)
        case "mkdir":
            _make_workdir(target, job)
        case kind:
            raise ValueError(f"unknown job {kind}")


def _make_workdir(target: Target, job: JsonObject) -> None:
    path = get_str(job, "path")
    owner = find_owner(target.root, get_str(job, "user"))
    if not target.is_directory(path):
        os.close(target.open_directory(path, (owner[0] or 0, owner[1] or 0)))
        target.count += 1


def _write_inline(target: Target, job: JsonObject) -> None:
    folder, name = target.place(get_str(job, "name"), is_directory=False)
    try:
        fd = target.create(folder, name)
        try:
            write_all(fd, os.fsencode(get_str(job, "content")))
            target.finish(fd, get_int(job, "mode", 0o644), 0, 0, get_int(job, "mtime"))
        finally:
            os.close(fd)
    finally:
        os.close(folder)
    target.count += 1


def _copy_file(target: Target, job: JsonObject) -> None:
    """A file of this machine (a download), or the archive that it is."""
    fd = os.open(get_str(job, "path"), os.O_RDONLY | os.O_CLOEXEC)
    try:
        if get_bool(job, "unpack") and unpack_if_archive(target, fd, 0, os.fstat(fd).st_size):
            return
        folder, name = target.place(get_str(job, "name"), is_directory=False)
        try:
            out = target.create(folder, name)
            try:
                transfer(fd, out, 0, os.fstat(fd).st_size)
                target.finish(out, get_int(job, "mode"), 0, 0, get_int(job, "mtime"))
            finally:
                os.close(out)
        finally:
            os.close(folder)
    finally:
        os.close(fd)
    target.count += 1
