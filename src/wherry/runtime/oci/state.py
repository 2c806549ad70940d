"""What wherry-oci remembers of a container between two commands: one JSON file, replaced atomically.

`ROOT/<id>/state.json`, beside the FIFO that `start` writes to. A pid counts only with its start time.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
from collections.abc import Mapping

from wherry.lib.jsonvalue import JsonObject, get_int, get_object, get_str
from wherry.runtime.cgroups import Cgroup, open_cgroup
from wherry.runtime.spec import Spec, parse_spec

OCI_VERSION = "1.2.1"
_VALID_ID = re.compile(r"[A-Za-z0-9_+.-]+")


class RuntimeFailure(Exception):
    """A command that cannot be done; the text is the whole message."""


class ContainerState:
    """One container, as the file has it."""

    __slots__ = ("bundle", "config", "container_id", "created", "directory", "pid", "start_time")

    def __init__(self, directory: str, container_id: str, bundle: str, config: JsonObject) -> None:
        self.directory = directory
        self.container_id = container_id
        self.bundle = bundle
        self.config = config
        self.created = ""
        self.pid = 0
        self.start_time = 0

    def spec(self) -> Spec:
        """The configuration that it was created with."""
        return parse_spec(self.config)

    def fifo(self) -> str:
        """Exists until `start`."""
        return f"{self.directory}/exec.fifo"

    def cgroup(self) -> Cgroup:
        """Its control group."""
        return open_cgroup(cgroup_path(self.spec(), self.container_id))

    def is_alive(self) -> bool:
        """Whether init is running (a zombie is not)."""
        return self.pid > 0 and process_start_time(self.pid) == self.start_time != 0

    def status(self) -> str:
        """created, running, paused or stopped."""
        if not self.is_alive():
            return "stopped"
        if os.path.exists(self.fifo()):
            return "created"
        return "paused" if self.cgroup().is_frozen() else "running"

    def document(self, status: str | None = None) -> JsonObject:
        """The specification's state object, with runc's additions."""
        status = status or self.status()
        root = get_str(get_object(self.config, "root"), "path")
        return {
            "ociVersion": OCI_VERSION,
            "id": self.container_id,
            "pid": 0 if status == "stopped" else self.pid,
            "status": status,
            "bundle": self.bundle,
            "rootfs": os.path.join(self.bundle, root),
            "created": self.created,
            "annotations": dict(get_object(self.config, "annotations")),
            "owner": "",
        }

    def save(self) -> None:
        """Write the file; the old or the new one is there at any moment."""
        text = json.dumps(
            {
                "id": self.container_id,
                "bundle": self.bundle,
                "created": self.created,
                "pid": self.pid,
                "start_time": self.start_time,
                "config": self.config,
            }
        )
        temporary = f"{self.directory}/.state.json"
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, f"{self.directory}/state.json")

    def forget(self) -> None:
        """Remove what is remembered; idempotent."""
        for name in ("exec.fifo", ".state.json", "state.json"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self.directory}/{name}")
        with contextlib.suppress(FileNotFoundError):
            os.rmdir(self.directory)


def create_state(root: str, container_id: str, bundle: str, config: JsonObject) -> ContainerState:
    """A new container's place; raises RuntimeFailure when the id is taken or malformed."""
    if not _VALID_ID.fullmatch(container_id) or container_id in {".", ".."}:
        raise RuntimeFailure(f"invalid container ID format: {container_id}")
    directory = os.path.join(root, container_id)
    os.makedirs(root, 0o711, exist_ok=True)
    try:
        os.mkdir(directory, 0o711)
    except FileExistsError as error:
        raise RuntimeFailure("container with given ID already exists") from error
    return ContainerState(directory, container_id, bundle, config)


def load_state(root: str, container_id: str) -> ContainerState:
    """A known container; raises RuntimeFailure."""
    if not _VALID_ID.fullmatch(container_id) or container_id in {".", ".."}:
        raise RuntimeFailure(f"invalid container ID format: {container_id}")
    directory = os.path.join(root, container_id)
    try:
        with open(f"{directory}/state.json", encoding="utf-8") as file:
            document = json.load(file)
    except (FileNotFoundError, ValueError) as error:
        raise RuntimeFailure("container does not exist") from error
    if not isinstance(document, Mapping):
        raise RuntimeFailure("container does not exist")
    state = ContainerState(
        directory, container_id, get_str(document, "bundle"), get_object(document, "config")
    )
    state.created = get_str(document, "created")
    state.pid = get_int(document, "pid")
    state.start_time = get_int(document, "start_time")
    return state


def list_states(root: str) -> list[ContainerState]:
    """Every known container, by id."""
    try:
        names = sorted(os.listdir(root))
    except FileNotFoundError:
        return []
    states = []
    for name in names:
        with contextlib.suppress(RuntimeFailure):
            states.append(load_state(root, name))
    return states


def cgroup_path(spec: Spec, container_id: str) -> str:
    """cgroupsPath; systemd's form "slice:prefix:name" becomes the path that systemd would give it."""
    path = spec.cgroups_path
    if not path:
        return f"/{container_id}"
    parts = path.split(":")
    if len(parts) != 3:
        return path
    slice_name, prefix, name = parts
    unit = f"{prefix}-{name}.scope" if prefix else f"{name}.scope"
    return f"{expand_slice(slice_name or 'system.slice')}/{unit}"


def expand_slice(name: str) -> str:
    """/a.slice/a-b.slice of "a-b.slice"."""
    path, prefix = "", ""
    for part in name.removesuffix(".slice").split("-"):
        if part:
            prefix = f"{prefix}-{part}" if prefix else part
            path += f"/{prefix}.slice"
    return path


def process_start_time(pid: int) -> int:
    """Field 22 of /proc/PID/stat; 0 when there is no such process or it has ended."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ESRCH}:
            return 0
        raise
    return 0 if fields[0] in {"Z", "X"} else int(fields[19])
