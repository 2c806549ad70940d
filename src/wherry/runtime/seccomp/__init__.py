"""Seccomp filters: a profile reduced (`rules`), compiled (`compiler`), and kept by what it depends on.

`build_filter` is all that the plan needs. The default profile costs some milliseconds to compile once;
a spawner calls it before it forks, so that every shim has the bytes already.
"""

from __future__ import annotations

import os

from wherry.kernel import caps
from wherry.lib.jsonvalue import JsonObject
from wherry.runtime.errors import SpecError
from wherry.runtime.seccomp.compiler import compile_policy
from wherry.runtime.seccomp.default import build_profile
from wherry.runtime.seccomp.rules import build_policy

Filter = tuple[bytes, int]  # program, flags of seccomp(2)

_CACHE_SIZE = 64
_cache: dict[tuple[str, int], Filter] = {}

DEFAULT_PROFILE: JsonObject = {"profile": "default"}


def build_filter(document: JsonObject, capabilities: int) -> Filter:
    """The filter of a profile for a bounding set; raises SpecError."""
    key = (repr(document), capabilities & caps.mask_of(caps.NAMES))
    known = _cache.get(key)
    if known is not None:
        return known
    profile = document
    if "defaultAction" not in document:
        if document.get("profile") != "default":
            raise SpecError("linux.seccomp", "neither a profile nor the name of one")
        profile = build_profile()
    policy = build_policy(profile, key[1], os.uname().machine)
    try:
        result = (compile_policy(policy), policy.flags)
    except ValueError as error:
        raise SpecError("linux.seccomp", str(error)) from error
    if len(_cache) >= _CACHE_SIZE:
        _cache.clear()
    _cache[key] = result
    return result
