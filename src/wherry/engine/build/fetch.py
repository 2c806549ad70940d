"""Files from elsewhere: ADD of URLs and git repositories, remote contexts.

Downloads are kept under ROOT/build-cache/http by their digest, beside a record by URL, and asked for again with their
ETag, so that the cache key of an ADD is the content, as BuildKit's. A file there never changes: a build that has
asked for it uses it later. git is the system's; credentials are never asked for.
"""

from __future__ import annotations

import email.utils
import hashlib
import json
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from wherry.lib.program import ProgramFailed, ProgramMissing, run_program
from wherry.model.errors import (
    FULL_DISK,
    Internal,
    InvalidArgument,
    NotFound,
    NotSupported,
    Unavailable,
)

COMMIT = re.compile(r"[0-9a-f]{40}")
TIMEOUT_S = 600.0
DOWNLOADS = "http"  # the folder among those of cache mounts


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """A download; `name` is what it is called in the image."""

    path: Path
    digest: str  # hexadecimal SHA-256
    name: str
    mtime_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class GitSource:
    """A repository at a branch, tag or commit, and a folder in it."""

    url: str
    ref: str = ""
    folder: str = ""


def parse_git(source: str) -> GitSource:
    """`https://host/repo.git#ref:folder`."""
    url, _, fragment = source.partition("#")
    ref, _, folder = fragment.partition(":")
    if url.startswith("github.com/"):
        url = f"https://{url}"
    if ref.startswith("-") or url.startswith("-"):
        raise InvalidArgument(f"invalid git reference: {source}")
    return GitSource(url=url, ref=ref, folder=folder.strip("/"))


class Fetcher:
    """Downloads of one engine."""

    def __init__(self, root: Path) -> None:
        self._folder = root / "build-cache" / DOWNLOADS
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        records = list(self._folder.glob("*.json"))
        kept = {path.name for path in records}
        kept |= {_read_record(path).get("digest", "") for path in records}
        for path in self._folder.iterdir():
            if path.name not in kept:  # older, or not finished by an engine that was killed
                path.unlink()

    async def get(self, url: str) -> Fetched:
        """The file at a URL. Raises NotFound, Internal, Unavailable."""
        import aiohttp

        self._folder.mkdir(mode=0o700, exist_ok=True)  # prune takes it away
        key = hashlib.sha256(url.encode()).hexdigest()[:32]
        record_path = self._folder / f"{key}.json"
        known = _read_record(record_path)
        if not (self._folder / known.get("digest", "")).is_file():
            known = {}
        headers = {"User-Agent": "wherry"}
        if known.get("etag"):
            headers["If-None-Match"] = known["etag"]
        temporary = self._folder / f"{key}.{secrets.token_hex(4)}"
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=60, sock_read=120)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, trust_env=True) as session,
                session.get(url, headers=headers) as response,
            ):
                if response.status == 304 and known:
                    return self._fetched(known)
                if response.status >= 300:  # aiohttp has followed what leads elsewhere
                    kind = NotFound if response.status == 404 else Internal
                    raise kind(f"failed to load {url}: invalid response status {response.status}")
                digest = hashlib.sha256()
                with temporary.open("wb") as file:
                    async for piece in response.content.iter_chunked(1 << 18):
                        digest.update(piece)
                        file.write(piece)
                record = {
                    "url": url,
                    "etag": response.headers.get("ETag", ""),
                    "digest": digest.hexdigest(),
                    "name": _file_name(url, response.headers.get("Content-Disposition", "")),
                    "modified": response.headers.get("Last-Modified", ""),
                }
            temporary.rename(self._folder / record["digest"])
            temporary.write_text(json.dumps(record))
            temporary.rename(record_path)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if isinstance(error, OSError) and error.errno in FULL_DISK:
                raise Unavailable(f"no space left on device: {url}") from error
            raise Internal(f"failed to load {url}: {error}") from error
        finally:
            temporary.unlink(missing_ok=True)
        return self._fetched(record)

    def _fetched(self, record: Mapping[str, str]) -> Fetched:
        return Fetched(
            path=self._folder / record["digest"],
            digest=record["digest"],
            name=record["name"],
            mtime_ns=_parse_http_time(record.get("modified", "")),
        )

    async def find_commit(self, source: GitSource) -> str:
        """The commit that a reference means now. Raises NotSupported, InvalidArgument."""
        if COMMIT.fullmatch(source.ref):
            return source.ref
        wanted = source.ref or "HEAD"
        output = await _git("ls-remote", source.url, wanted, f"{wanted}^{{}}")
        lines = [line.split() for line in output.splitlines() if line.strip()]
        if not lines:
            raise InvalidArgument(f"repository does not contain ref {wanted}")
        peeled = [line[0] for line in lines if line[1].endswith("^{}")]
        return (peeled or [lines[0][0]])[0]

    async def checkout(self, source: GitSource, target: Path) -> str:
        """Clones at the commit, shallow where the server allows. Answers the commit."""
        commit = await self.find_commit(source)
        await _git("init", "-q", str(target))
        in_target = ("-C", str(target))
        try:
            await _git(*in_target, "fetch", "-q", "--depth=1", source.url, commit)
        except InvalidArgument:
            await _git(*in_target, "fetch", "-q", source.url, source.ref or "HEAD")
        await _git(*in_target, "checkout", "-q", commit)
        await _git(*in_target, "submodule", "-q", "update", "--init", "--recursive", "--depth=1")
        return commit


async def _git(*arguments: str) -> str:
    env = {
        "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CONFIG_NOSYSTEM": "1",
        "HOME": "/nonexistent",
        # A submodule may not name files of this machine.
        "GIT_ALLOW_PROTOCOL": "http:https:git:ssh",
    }
    for name in ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        if name in os.environ:
            env[name] = os.environ[name]
    try:
        done = await run_program(
            ["git", *arguments], env=env, timeout_s=TIMEOUT_S, is_tethered=True
        )
    except ProgramMissing as error:
        raise NotSupported("git repositories need the program git: install package git") from error
    except ProgramFailed as error:
        raise InvalidArgument(f"git {arguments[0]}: {error}") from error
    return done.stdout.decode(errors="replace")


def _read_record(path: Path) -> dict[str, str]:
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return {str(key): str(value) for key, value in document.items()}


def _parse_http_time(text: str) -> int:
    """In nanoseconds; 0 for what is none."""
    try:
        return int(email.utils.parsedate_to_datetime(text).timestamp()) * 1_000_000_000
    except (TypeError, ValueError):
        return 0


def _file_name(url: str, disposition: str) -> str:
    match = re.search(r'filename="?([^";]+)"?', disposition)
    name = match[1] if match else unquote(urlsplit(url).path.rpartition("/")[2])
    name = name.rpartition("/")[2]
    return name if name not in {"", ".", ".."} else "__unnamed__"
