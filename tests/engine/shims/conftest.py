"""Real containers through `Shims`, with RUN, cgroups and root of their own; what is left behind fails."""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import signal
import socket
import tarfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import pytest
from tests.harness.processes import children, open_descriptors
from tests.harness.traces import Claim
from tests.images.make import write_busybox_layer

from wherry.engine.shims import (
    Attachment,
    ExecRequest,
    LogTarget,
    ShimHandle,
    ShimRequest,
    Shims,
)
from wherry.logs.reader import LogReader

DEADLINE_S = 120.0
CGROUPS = Path("/sys/fs/cgroup")
CAPABILITIES = ("CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SETGID", "CAP_SYS_CHROOT")


@pytest.fixture(scope="session")
def busybox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("busybox")
    write_busybox_layer(folder / "layer.tar")
    root = folder / "root"
    with tarfile.open(folder / "layer.tar") as tar:
        tar.extractall(root)
    # The applets are hard links, whose entries in the archive carry no mode of use.
    (root / "bin/busybox").chmod(0o755)
    for name in ("proc", "sys", "dev"):
        (root / name).mkdir()
    return root


def build_process(args: Sequence[str], *, terminal: bool = False) -> dict[str, object]:
    return {
        "terminal": terminal,
        "user": {"uid": 0, "gid": 0},
        "args": list(args),
        "env": ["PATH=/bin:/usr/bin"],
        "cwd": "/",
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES),
    }


def build_spec(
    args: Sequence[str], *, terminal: bool, host_pids: bool, resources: Mapping[str, object]
) -> dict[str, object]:
    kinds = ["mount", "uts", "ipc", "network"] + ([] if host_pids else ["pid"])
    return {
        "ociVersion": "1.2.0",
        "process": build_process(args, terminal=terminal),
        "root": {"path": ""},
        "hostname": "test",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {
                "destination": "/dev",
                "type": "tmpfs",
                "source": "tmpfs",
                "options": ["nosuid", "mode=755", "size=65536k"],
            },
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
            },
        ],
        "linux": {
            "namespaces": [{"type": kind} for kind in kinds],
            "resources": dict(resources),
        },
    }


class Bench:
    """One engine's shims, and what the tests ask of them."""

    def __init__(self, folder: Path, root: Path, *, slots: int = 0, is_brief: bool = False) -> None:
        self.folder = folder
        self.is_brief = is_brief
        self.slots = slots
        self.root = root
        self.run_dir = folder / "run"
        self.cgroup_parent = f"/wherry-{secrets.token_hex(4)}"
        self.shims = self._make_shims()
        self.handles: list[ShimHandle] = []

    def _make_shims(self) -> Shims:
        return Shims(run_dir=self.run_dir, slots=self.slots)

    async def fill_slots(self) -> None:
        """Returns when all slots wait for their orders; the class is learned from a first container."""
        if self.slots and not self.shims.slots_ready:
            assert await self.run("true") == (0, "")
            self.handles.clear()
        await wait_until(lambda: self.shims.slots_ready == self.slots)

    async def launch(
        self,
        *args: str,
        terminal: bool = False,
        host_pids: bool = False,
        stdin: str = "none",
        resources: Mapping[str, object] = {},
        attachments: Sequence[Attachment] = (),
        waiters: Sequence[int] = (),
        container_id: str = "",
        generation: int = 1,
        is_followed: bool = False,
        log_folder: Path | None = None,
        **log_options: object,
    ) -> ShimHandle:
        container_id = (
            container_id or self.shims.reserve_id(self.cgroup_parent, "") or secrets.token_hex(32)
        )
        handle = await self.shims.launch(
            ShimRequest(
                container_id=container_id,
                generation=generation,
                oci=build_spec(args, terminal=terminal, host_pids=host_pids, resources=resources),
                root=self.root,
                cgroup_path=f"{self.cgroup_parent}/{container_id}",
                stdin=stdin,
                log=LogTarget(path=self.log_path(container_id, log_folder), **log_options),
                attachments=attachments,
                waiters=waiters,
                is_brief=self.is_brief,
                is_followed=is_followed,
            )
        )
        self.handles.append(handle)
        return handle

    async def run(self, *args: str, **options: object) -> tuple[int, str]:
        """Exit code and log of a container that is run to its end."""
        handle = await self.launch(*args, **options)
        record = await handle.exited
        await handle.release()
        return record.exit_code, self.read_log(handle.container_id)

    async def exec(self, handle: ShimHandle, *args: str, **options: object) -> tuple[int, bytes]:
        """Exit code and outputs of an exec that is run to its end."""
        terminal = bool(options.pop("terminal", False))
        client, attachment = connect()
        request = ExecRequest(
            exec_id=secrets.token_hex(32),
            process=build_process(args, terminal=terminal),
            attachments=[attachment],
            **options,
        )
        try:
            running = await handle.exec(request)
        except Exception:
            client.close()
            raise
        code = await running.exited
        running.release()
        return code, await client.read_to_end()

    def log_path(self, container_id: str, folder: Path | None = None) -> Path:
        return (folder or self.folder) / f"{container_id}-json.log"

    def read_log(self, container_id: str) -> str:
        with LogReader(str(self.log_path(container_id))) as reader:
            lines = b""
            while entries := reader.read():
                lines += b"".join(entry.line for entry in entries)
        return lines.decode()

    def slot_ids(self) -> set[str]:
        """The containers to come."""
        return {path.name for path in (self.run_dir / "slots").iterdir()}

    def cgroups(self, *, slots: bool = False) -> list[Path]:
        waiting = set() if slots else self.slot_ids()
        return [
            path
            for path in CGROUPS.glob(f"*{self.cgroup_parent}/*")
            if path.is_dir() and path.name not in waiting
        ]

    def shim_pids(self) -> list[int]:
        """The shims of this bench, by what they call themselves."""
        title = f"wherry-shim {self.run_dir}/".encode()
        pids = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if (folder / "cmdline").read_bytes().startswith(title):
                    pids.append(int(folder.name))
            except OSError:
                continue
        return pids

    def forked_pids(self) -> list[int]:
        """Every shim, that of a slot in the making too."""
        pid = self.shims.spawner_pid
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    async def named_shims(self, count: int) -> list[int]:
        """`shim_pids`, when so many have taken their names: after the answer to the start."""
        await wait_until(lambda: len(self.shim_pids()) == count)
        return self.shim_pids()

    async def abandon(self) -> Shims:
        """As if the engine were killed: its connections close, and another engine begins."""
        for handle in self.handles:
            handle._peer.close()
            os.close(handle.pidfd)
            handle.pidfd = -1
        self.handles.clear()
        await self.shims.close()
        self.shims = self._make_shims()
        await self.shims.start()
        return self.shims

    async def give_up(self) -> None:
        """After a failed story: its own error is what counts."""
        for pid in self.shim_pids():
            os.kill(pid, signal.SIGKILL)
        await asyncio.gather(*(handle.exited for handle in self.handles))
        await asyncio.gather(*(handle.release() for handle in self.handles))
        await self.shims.close()
        self.clean()

    def clean(self) -> None:
        for cgroup in self.cgroups(slots=True):
            cgroup.rmdir()
        for parent in CGROUPS.glob(f"*{self.cgroup_parent}"):
            parent.rmdir()


class ClientEnd:
    """The client's side of an attached connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        connection.setblocking(False)

    async def read(self, size: int) -> bytes:
        loop = asyncio.get_running_loop()
        data = b""
        while len(data) < size:
            chunk = await loop.sock_recv(self.socket, min(1 << 16, size - len(data)))
            if not chunk:
                break
            data += chunk
        return data

    async def read_until(self, text: bytes) -> bytes:
        loop = asyncio.get_running_loop()
        data = b""
        while text not in data:
            chunk = await loop.sock_recv(self.socket, 1 << 16)
            assert chunk, f"ended without {text!r}: {data!r}"
            data += chunk
        return data

    async def read_to_end(self) -> bytes:
        loop = asyncio.get_running_loop()
        chunks = []
        while chunk := await loop.sock_recv(self.socket, 1 << 16):
            chunks.append(chunk)
        self.socket.close()
        return b"".join(chunks)

    def end_input(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.socket.close()

    async def write(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.socket, data)


def connect(**options: object) -> tuple[ClientEnd, Attachment]:
    ours, theirs = socket.socketpair()
    return ClientEnd(ours), Attachment(fd=theirs.detach(), **options)


Story = Callable[[Bench], Awaitable[None]]


@pytest.fixture(params=[{}, {"slots": 2}, {"is_brief": True}], ids=["cold", "slots", "brief"])
def play(request: pytest.FixtureRequest, tmp_path: Path, busybox: Path) -> Callable[[Story], None]:
    """Plays a story against a bench, within a deadline, and looks for what it left."""

    async def main(story: Story) -> None:
        bench = Bench(tmp_path, busybox, **request.param)
        claim = Claim(tmp_path, bench.cgroup_parent.strip("/"))
        try:
            await check(bench, story)
        finally:
            claim.remove()

    async def check(bench: Bench, story: Story) -> None:
        await bench.shims.start()
        await bench.fill_slots()
        try:
            async with asyncio.timeout(DEADLINE_S):
                await story(bench)
        except BaseException:
            await bench.give_up()
            raise
        await bench.shims.close()
        await wait_until(lambda: not bench.shim_pids())
        left = [str(path) for path in bench.run_dir.joinpath("containers").rglob("*")]
        left += [str(path) for path in bench.cgroups(slots=True)]
        mounts = Path("/proc/self/mountinfo").read_text()  # noqa: ASYNC240 # a file of the kernel
        left += [line for line in mounts.splitlines() if str(tmp_path) in line]
        bench.clean()
        assert left == []

    def play_story(story: Story) -> None:
        gc.collect()  # what other tests left would else be closed in between
        before = open_descriptors(), children()
        asyncio.run(main(story))
        assert (open_descriptors(), children()) == before

    return play_story


async def wait_until(condition: Callable[[], bool], patience_s: float = 60.0) -> None:
    """For what nobody announces: asks again until the deadline."""
    async with asyncio.timeout(patience_s):
        while not condition():  # noqa: ASYNC110 # there is no event to wait for
            await asyncio.sleep(0.01)
