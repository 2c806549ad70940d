"""Contexts between builds: only what changed is asked for, and what is pieced together is the whole context."""

from __future__ import annotations

import asyncio
import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from wherry.engine.build.index import Entry, read_index
from wherry.engine.build.kept import KeptContexts, Listed
from wherry.model.errors import Conflict


class Client:
    """A folder as a client lists it: the stamp of a file is its text."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.kept = KeptContexts(root)
        self.builds = 0

    def build(self, files: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
        """The context that the engine has after a build, and the names of what was sent."""
        return asyncio.run(self._build(files))

    async def _build(self, files: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
        listed = [Listed("d", "d", 0o755)]
        listed += [
            Listed(path, "f", 0o644, len(text), 7, "", f"{len(text)}:{text}")
            for path, text in files.items()
        ]
        token, missing = await self.kept.offer("here", listed)
        names = [listed[place].path for place in missing]
        self.builds += 1
        body, data = self.root / f"body{self.builds}", self.root / f"data{self.builds}"
        body.write_bytes(pack(names, files))
        sent, _ = read_index(body, body)
        entries = await self.kept.complete(token, body, sent, data)
        return read(entries, data), names


def pack(names: Sequence[str], files: Mapping[str, str]) -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(files[name])
            tar.addfile(info, io.BytesIO(files[name].encode()))
    return archive.getvalue()


def read(entries: Sequence[Entry], data: Path) -> dict[str, str]:
    content = data.read_bytes()
    return {
        entry.path: content[entry.offset : entry.offset + entry.size].decode()
        for entry in entries
        if entry.kind == "f"
    }


@pytest.fixture
def client(tmp_path: Path) -> Client:
    (tmp_path / "build-cache").mkdir()
    return Client(tmp_path)


def test_only_what_changed_is_sent(client: Client) -> None:
    files = {"d/a": "one", "d/b": "two", "empty": ""}
    assert client.build(files) == (files, ["d/a", "d/b"])
    assert client.build(files) == (files, [])
    files["d/b"] = "other"
    assert client.build(files) == (files, ["d/b"])
    del files["d/a"]
    assert client.build(files) == (files, [])
    files["d/a"] = "one"
    assert client.build(files) == (files, ["d/a"])


def test_the_next_engine_knows_it_too(client: Client) -> None:
    files = {"a": "one"}
    client.build(files)
    client.kept = KeptContexts(client.root)
    assert client.build(files) == (files, [])


@pytest.mark.parametrize("damage", ["pool", "index.json"])
def test_what_is_torn_is_sent_again(client: Client, damage: str) -> None:
    files = {"a": "one", "b": "two"}
    client.build(files)
    (folder,) = (client.root / "build-cache").glob("context-*/")
    whole = (folder / damage).read_bytes()
    (folder / damage).write_bytes(whole[: len(whole) // 8])
    client.kept = KeptContexts(client.root)
    assert client.build(files) == (files, ["a", "b"])


def test_after_a_power_cut_everything_is_sent(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.build({"a": "one"})
    monkeypatch.setattr("wherry.engine.build.kept.read_boot_id", lambda: "another boot")
    client.kept = KeptContexts(client.root)
    assert client.build({"a": "one"}) == ({"a": "one"}, ["a"])


def test_pruned_between_the_question_and_the_build(client: Client) -> None:
    client.build({"a": "one"})

    async def ask() -> None:
        token, _ = await client.kept.offer("here", [Listed("a", "f", 0o644, 3, 7, "", "3:one")])
        (folder,) = (client.root / "build-cache").glob("context-*/")
        folder.rename(client.root / "gone")
        body = client.root / "empty"
        body.write_bytes(bytes(1024))
        await client.kept.complete(token, body, [], client.root / "data")

    with pytest.raises(Conflict, match="a is not here any more: build again"):
        asyncio.run(ask())


def test_what_is_refused_leaves_nothing(client: Client) -> None:
    client.build({"a": "one"})
    (pool,) = (client.root / "build-cache").glob("context-*/pool")
    size = pool.stat().st_size

    async def ask() -> None:
        listed = [Listed(name, "f", 0o644, 3, 7, "", "3:new") for name in ("b", "c")]
        token, _ = await client.kept.offer("here", listed)
        body = client.root / "body"
        body.write_bytes(pack(["b"], {"b": "new"}))
        sent, _ = read_index(body, body)
        await client.kept.complete(token, body, sent, client.root / "data")

    with pytest.raises(Conflict, match="c is not here any more"):
        asyncio.run(ask())
    assert pool.stat().st_size == size
    assert client.build({"a": "one"}) == ({"a": "one"}, [])


def test_few_contexts_are_kept(client: Client) -> None:
    async def fill() -> None:
        for number in range(12):
            token, _ = await client.kept.offer(str(number), [Listed("d", "d", 0o755)])
            body = client.root / "empty"
            body.write_bytes(bytes(1024))
            await client.kept.complete(token, body, [], client.root / f"data-{number}")

    asyncio.run(fill())
    assert len(list((client.root / "build-cache").glob("context-*/"))) == 8
