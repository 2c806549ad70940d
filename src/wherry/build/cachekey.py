"""Cache keys: what makes two steps the same. Never time, never a place on this machine.

A key is a SHA-256 over canonical JSON. A chain of keys starts at a base (an image's layers) and every
step adds what it does: RUN its command, environment, user, folder, mounts; COPY and ADD where the files
go and a digest of their content and metadata. Steps that change only the config add nothing.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict

from wherry.build.plan import CopyStep, RunStep, WorkdirStep
from wherry.lib.jsonvalue import JsonValue

VERSION = 4  # a change of what a step produces changes all keys


def digest_of(document: JsonValue) -> str:
    """SHA-256 of the canonical JSON."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def base_key(diff_ids: tuple[str, ...], platform: str) -> str:
    """The key of an image as a base: its layers, not its name."""
    return digest_of(["base", VERSION, list(diff_ids), platform])


def run_key(parent: str, step: RunStep, mounts: tuple[str, ...], settings: tuple[str, ...]) -> str:
    """The key of a RUN; `mounts` are the keys of what is bound, `settings` hosts, limits and the like."""
    described: list[JsonValue] = []
    for mount, source in zip(step.mounts, mounts, strict=True):
        values = asdict(mount)
        if mount.type in {"secret", "ssh"}:
            values.pop("source")
        described.append([values, source])
    return digest_of(
        [
            "run",
            VERSION,
            parent,
            list(step.argv),
            sorted(step.env),
            step.cwd,
            step.user,
            described,
            step.network,
            step.security,
            [list(file) for file in step.files],
            list(settings),
        ]
    )


def copy_key(parent: str, step: CopyStep, content: str) -> str:
    """The key of a COPY or ADD; `content` is the digest of the files, or the key of their stage.

    With --link the layer has no parent: it is the same on every base.
    """
    return digest_of(
        [
            "copy",
            VERSION,
            parent,
            content,
            list(step.sources),
            step.destination,
            [list(file) for file in step.files],
            step.chown,
            step.chmod,
            step.link,
            step.parents,
            list(step.excludes),
            step.is_add,
            step.unpack,
            step.keep_git_dir,
        ]
    )


def linked_key(parent: str, layer: str) -> str:
    """The key of a state with a layer linked onto it, which has a key of its own."""
    return digest_of(["link", VERSION, parent, layer])


def workdir_key(parent: str, step: WorkdirStep) -> str:
    """The key of a WORKDIR."""
    return digest_of(["workdir", VERSION, parent, step.path, step.user])


def fresh_key(key: str, token: str) -> str:
    """The key of a step that was done although the cache knew it: told apart by a token."""
    return digest_of(["fresh", VERSION, key, token])
