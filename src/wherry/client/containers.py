"""Containers: the requests under /containers, and /commit."""

from __future__ import annotations

from wherry.client.document import as_document, decode
from wherry.client.noun import Noun, encode_filters
from wherry.client.transport import build_query, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from wherry.client.document import Document
    from wherry.client.transport import Response, Stream


class Containers(Noun):
    """Requests about containers; `ref` is a name, an id or a unique prefix of one."""

    __slots__ = ()

    def create(self, config: Document, *, name: str = "", platform: str = "") -> Document:
        """Makes a container; `config` is the Engine API's body. Answers Id and Warnings."""
        return self.post(f"/containers/create{build_query(name=name, platform=platform)}", config)

    def start(self, ref: str, *, detach_keys: str = "") -> None:
        """Starts it; nothing happens if it runs."""
        self.post(f"/containers/{quote(ref)}/start{build_query(detachKeys=detach_keys)}")

    def stop(self, ref: str, *, timeout_s: int | None = None, signal: str = "") -> None:
        """Stops it: the stop signal, then SIGKILL after the timeout."""
        self.post(f"/containers/{quote(ref)}/stop{build_query(t=timeout_s, signal=signal)}")

    def restart(self, ref: str, *, timeout_s: int | None = None, signal: str = "") -> None:
        """Stops it if it runs, then starts it."""
        self.post(f"/containers/{quote(ref)}/restart{build_query(t=timeout_s, signal=signal)}")

    def kill(self, ref: str, signal: str = "") -> None:
        """Sends a signal to its first process; SIGKILL by default."""
        self.post(f"/containers/{quote(ref)}/kill{build_query(signal=signal)}")

    def pause(self, ref: str) -> None:
        """Freezes its processes."""
        self.post(f"/containers/{quote(ref)}/pause")

    def unpause(self, ref: str) -> None:
        """Thaws its processes."""
        self.post(f"/containers/{quote(ref)}/unpause")

    def rename(self, ref: str, name: str) -> None:
        """Gives it another name."""
        self.post(f"/containers/{quote(ref)}/rename{build_query(name=name)}")

    def resize(self, ref: str, rows: int, columns: int) -> None:
        """Sets the size of its terminal."""
        self.post(f"/containers/{quote(ref)}/resize?h={rows}&w={columns}")

    def remove(
        self, ref: str, *, force: bool = False, volumes: bool = False, link: bool = False
    ) -> None:
        """Removes it; with `force` also when it runs."""
        self.delete(f"/containers/{quote(ref)}{build_query(force=force, v=volumes, link=link)}")

    def inspect(self, ref: str, *, size: bool = False) -> Document:
        """Everything known about it."""
        return self.get(f"/containers/{quote(ref)}/json{build_query(size=size)}")

    def list_all(
        self,
        *,
        all_: bool = False,
        limit: int = 0,
        size: bool = False,
        filters: Mapping[str, Sequence[str]] | None = None,
    ) -> list[Document]:
        """Summaries, the newest first."""
        query = build_query(
            all_=all_, limit=limit or None, size=size, filters=encode_filters(filters)
        )
        return self.get_list(f"/containers/json{query}")

    def wait(self, ref: str, condition: str = "") -> Response:
        """An answer whose body arrives when the condition is met; see `read_wait`."""
        return self.transport.request(
            "POST", f"/containers/{quote(ref)}/wait{build_query(condition=condition)}"
        )

    def attach(
        self,
        ref: str,
        *,
        stdin: bool = False,
        stdout: bool = True,
        stderr: bool = True,
        logs: bool = False,
        stream: bool = True,
        detach_keys: str = "",
    ) -> Stream:
        """Its streams: raw with a terminal, else in frames of 8 bytes of header."""
        query = build_query(
            stream=stream,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            logs=logs,
            detachKeys=detach_keys,
        )
        target = f"/containers/{quote(ref)}/attach{query}"
        return self.transport.request(
            "POST", target, headers={"Content-Type": "text/plain"}, upgrade=True
        ).take_stream()

    def logs(
        self,
        ref: str,
        *,
        stdout: bool = True,
        stderr: bool = True,
        since: str = "",
        until: str = "",
        timestamps: bool = False,
        follow: bool = False,
        tail: str = "",
        details: bool = False,
    ) -> Response:
        """Its log as a stream, in frames if it has no terminal."""
        query = build_query(
            stdout=stdout,
            stderr=stderr,
            since=since,
            until=until,
            timestamps=timestamps,
            follow=follow,
            tail=tail,
            details=details,
        )
        return self.transport.request("GET", f"/containers/{quote(ref)}/logs{query}")

    def top(self, ref: str, ps_args: str = "") -> Document:
        """Its processes as `ps` shows them: Titles and Processes."""
        return self.get(f"/containers/{quote(ref)}/top{build_query(ps_args=ps_args)}")

    def stats(self, ref: str, *, stream: bool = False, one_shot: bool = False) -> Response:
        """One measurement, or one a second while the answer is read."""
        query = f"?stream={'true' if stream else 'false'}{'&one-shot=true' if one_shot else ''}"
        return self.transport.request("GET", f"/containers/{quote(ref)}/stats{query}")

    def update(self, ref: str, document: Document) -> Document:
        """Changes limits and restart policy."""
        return self.post(f"/containers/{quote(ref)}/update", document)

    def changes(self, ref: str) -> list[Document]:
        """What differs from its image: Kind and Path."""
        return self.get_list(f"/containers/{quote(ref)}/changes")

    def export(self, ref: str) -> Response:
        """Its file system as a tar stream."""
        return self.transport.request("GET", f"/containers/{quote(ref)}/export")

    def stat_path(self, ref: str, path: str) -> Document:
        """name, size, mode, mtime and linkTarget of a path in it."""
        response = self.transport.request(
            "HEAD", f"/containers/{quote(ref)}/archive{build_query(path=path)}"
        )
        response.skip_body()
        return _decode_stat(response)

    def get_archive(self, ref: str, path: str) -> tuple[Response, Document]:
        """A path in it as a tar stream, and its stat."""
        response = self.transport.request(
            "GET", f"/containers/{quote(ref)}/archive{build_query(path=path)}"
        )
        return response, _decode_stat(response)

    def put_archive(
        self,
        ref: str,
        path: str,
        stream: Iterable[bytes],
        *,
        allow_overwrite: bool = False,
        copy_owner: bool = False,
    ) -> None:
        """Extracts a tar stream into a folder of it."""
        query = build_query(
            path=path,
            noOverwriteDirNonDir=None if allow_overwrite else "true",
            copyUIDGID="true" if copy_owner else None,
        )
        self.transport.request(
            "PUT",
            f"/containers/{quote(ref)}/archive{query}",
            stream=stream,
            headers={"Content-Type": "application/x-tar"},
        ).read()

    def commit(
        self,
        ref: str,
        *,
        repository: str = "",
        tag: str = "",
        author: str = "",
        message: str = "",
        pause: bool = True,
        changes: Sequence[str] = (),
    ) -> Document:
        """Makes an image of it. Answers Id."""
        query = build_query(container=ref, repo=repository, tag=tag, author=author, comment=message)
        query += "" if pause else "&pause=0"
        for change in changes:
            query += f"&changes={quote(change).replace('/', '%2F')}"
        return self.post(f"/commit{query}")

    def prune(self, filters: Mapping[str, Sequence[str]] | None = None) -> Document:
        """Removes those that do not run. Answers ContainersDeleted and SpaceReclaimed."""
        return self.post(f"/containers/prune{build_query(filters=encode_filters(filters))}")


def read_wait(response: Response) -> Document:
    """StatusCode and Error of a wait; blocks until the condition is met."""
    body = response.read()
    return as_document(decode(body)) if body.strip() else {}


def _decode_stat(response: Response) -> Document:
    import binascii

    encoded = response.headers.get("x-docker-container-path-stat", "")
    return as_document(decode(binascii.a2b_base64(encoded))) if encoded else {}
