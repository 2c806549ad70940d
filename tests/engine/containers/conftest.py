"""A folder and names of a test's own; what is left of them after it fails the test."""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.engine.containers.rig import names
from tests.harness.traces import Claim

from wherry.kernel.netlink.rtnl import Rtnl

CGROUPS = Path("/sys/fs/cgroup")
SETTLE_S = 60.0


@dataclass(frozen=True)
class Place:
    """Where one engine lives."""

    folder: Path
    tag: str

    def leftovers(self) -> dict[str, list[str]]:
        """What containers left."""
        with Rtnl() as rtnl:
            bridge = rtnl.find_link(self.tag)
            links = [
                link.name
                for link in rtnl.links()
                if (bridge is not None and link.master == bridge.index)
                or link.name == f"{self.tag}n"
            ]
        parents = [*CGROUPS.glob(f"*/{self.tag}"), CGROUPS / self.tag]
        groups = [str(path) for parent in parents for path in parent.glob("*/")]
        mounts = [
            line.split()[4]
            for line in Path("/proc/self/mountinfo").read_text().splitlines()
            if f"{self.folder}/" in line and "/layers/" not in line
        ]
        return {
            "links": links,
            "cgroups": groups,
            "mounts": mounts,
            "files": list(names(self.folder / "root" / "containers")),
            "runs": list(names(self.folder / "run" / "containers")),
            "volumes": list(names(self.folder / "root" / "volumes")),
        }


@pytest.fixture
def place() -> Iterator[Place]:
    folder = Path(tempfile.mkdtemp(prefix="wherry-"))
    found = Place(folder, f"we{secrets.token_hex(3)}")
    claim = Claim(folder, found.tag)
    yield found
    deadline = time.monotonic() + SETTLE_S
    while any(found.leftovers().values()) and time.monotonic() < deadline:
        time.sleep(0.02)  # the kernel frees network namespaces in its own time
    left = {kind: what for kind, what in found.leftovers().items() if what}
    claim.remove()
    assert not left
