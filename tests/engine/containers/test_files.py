"""`docker cp` and `export`: what comes out and goes in, of running and stopped containers, and what cannot get out."""

from __future__ import annotations

import asyncio
import io
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
from tests.engine.containers.conftest import Place
from tests.engine.containers.rig import Rig, running_rig

from wherry.model.container import HostConfig
from wherry.model.errors import EngineError, InvalidArgument, NotFound


def tell(place: Place, story: Callable[[Rig], Awaitable[None]]) -> None:
    async def run() -> None:
        async with running_rig(place.folder, place.tag) as rig:
            await story(rig)

    asyncio.run(run())


def build_tar(*members: tarfile.TarInfo | tuple[str, bytes], mode: str = "w") -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as tar:  # type: ignore[call-overload]
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                entry = tarfile.TarInfo(member[0])
                entry.size = len(member[1])
                tar.addfile(entry, io.BytesIO(member[1]))
    return stream.getvalue()


def link(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type = kind
    entry.linkname = target
    return entry


async def body(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 1000):
        yield data[start : start + 1000]


async def put(rig: Rig, path: str, data: bytes, **options: bool) -> None:
    await rig.services.containers.archive_put("box", path, body(data), **options)


async def get(rig: Rig, path: str) -> dict[str, bytes]:
    _, stream = await rig.services.containers.archive_get("box", path)
    data = b"".join([piece async for piece in stream])
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        found = {}
        for member in tar.getmembers():
            file = tar.extractfile(member) if member.isfile() else None
            found[member.name] = file.read() if file is not None else b""
        return found


async def make(rig: Rig, *, running: bool, host: HostConfig | None = None) -> None:
    await rig.create("sleep", "100", name="box", host=host)
    if running:
        await rig.services.containers.start("box")


@pytest.mark.parametrize("running", [True, False])
@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_in_and_out(place: Place, running: bool, mode: str) -> None:
    async def story(rig: Rig) -> None:
        await make(rig, running=running)
        await put(rig, "/tmp", build_tar(("a/b", b"x" * 5000), mode=mode))
        assert await get(rig, "/tmp/a") == {"a": b"", "a/b": b"x" * 5000}
        assert await get(rig, "/tmp/a/.") == {".": b"", "./b": b"x" * 5000}
        found = await rig.services.containers.archive_stat("box", "/tmp/a/b")
        assert (found.name, found.size, found.mode) == ("b", 5000, 0o644)
        changes = await rig.services.containers.changes("box")
        assert ("A", "/tmp/a/b") in {(change.kind, change.path) for change in changes}
        await rig.services.containers.remove("box", force=True)

    tell(place, story)


def test_volumes_are_seen_while_stopped(place: Place) -> None:
    async def story(rig: Rig) -> None:
        await make(rig, running=False, host=HostConfig(binds=("data:/data", "data:/seen:ro")))
        await put(rig, "/data", build_tar(("kept", b"1")))
        assert await get(rig, "/seen/kept") == {"kept": b"1"}
        with pytest.raises(InvalidArgument, match="mounted volume is marked read-only"):
            await put(rig, "/seen", build_tar(("x", b"1")))
        await rig.services.containers.remove("box")
        await rig.volumes.remove("data")

    tell(place, story)


def test_sentences(place: Place) -> None:
    async def story(rig: Rig) -> None:
        await make(rig, running=True)
        with pytest.raises(NotFound, match="Could not find the file /nope in container box"):
            await get(rig, "/nope")
        with pytest.raises(NotFound, match="Could not find the file /nope in container box"):
            await put(rig, "/nope", build_tar(("a", b"")))
        with pytest.raises(InvalidArgument, match="extraction point is not a directory"):
            await put(rig, "/etc/passwd", build_tar(("a", b"")))
        folder = tarfile.TarInfo("passwd")
        folder.type = tarfile.DIRTYPE
        with pytest.raises(EngineError, match='cannot overwrite non-directory "passwd" with'):
            await put(rig, "/etc", build_tar(folder), no_overwrite_dir_non_dir=True)
        await rig.services.containers.remove("box", force=True)

    tell(place, story)


@pytest.mark.parametrize("running", [True, False])
def test_links_lead_nowhere_but_into_the_container(place: Place, running: bool) -> None:
    secret = place.folder / "secret"
    secret.mkdir()
    (secret / "key").write_text("host")
    away = str(secret)

    async def story(rig: Rig) -> None:
        await make(rig, running=running)
        ladder = "../" * 20
        await put(
            rig,
            "/tmp",
            build_tar(
                link("absolute", away, tarfile.SYMTYPE),
                link("ladder", ladder + away.lstrip("/"), tarfile.SYMTYPE),
                link("magic", "/proc/self/root", tarfile.SYMTYPE),
            ),
        )
        for name in ("absolute", "ladder"):
            with pytest.raises(NotFound):
                await get(rig, f"/tmp/{name}/key")
            with pytest.raises(EngineError):
                await put(rig, f"/tmp/{name}", build_tar(("written", b"x")))
        with pytest.raises(EngineError):
            await get(rig, f"/tmp/magic{away}/key")
        await put(rig, "/tmp", build_tar((f"{ladder}escaped", b"x"), ("absolute", b"file now")))
        assert await get(rig, "/tmp/escaped") == {"escaped": b"x"}
        with pytest.raises(EngineError):
            await put(rig, "/tmp", build_tar(link("hard", f"{away}/key", tarfile.LNKTYPE)))
        await rig.services.containers.remove("box", force=True)

    tell(place, story)
    assert [path.name for path in secret.iterdir()] == ["key"]


def test_export_is_the_image_and_what_changed(place: Place) -> None:
    async def story(rig: Rig) -> None:
        await make(rig, running=True)
        await put(rig, "/", build_tar(("new", b"1")))
        stream = await rig.services.containers.export("box")
        data = b"".join([piece async for piece in stream])
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            names = tar.getnames()
        assert {"new", "bin/busybox", "etc/passwd"} <= set(names)
        assert not any(name.startswith(("proc/", "sys/")) for name in names)
        await rig.services.containers.remove("box", force=True)

    tell(place, story)
