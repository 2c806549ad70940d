"""The context of a build: a folder, a tar stream, a Dockerfile on standard input, or a URL."""

from __future__ import annotations

import os

from wherry.cli.archive import BLOCK, pack
from wherry.cli.errors import CommandFailed
from wherry.cli.image.build_listing import Listing
from wherry.lib.archives import HEAD_BYTES, is_archive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from wherry.build.ignore import IgnoreMatcher

REMOTE_PREFIXES = ("http://", "https://", "git://", "github.com/", "git@", "ssh://")
NAMED_PREFIX = ".wherry-contexts"
CHUNK = 1 << 18


class Context:
    """What is sent, and what the engine must know of it."""

    __slots__ = ("dockerfile", "dockerfile_text", "listing", "named", "remote", "stream")

    def __init__(
        self,
        stream: Callable[[], Iterator[bytes]],
        *,
        dockerfile: str = "",
        dockerfile_text: str | None = None,
        remote: str = "",
    ) -> None:
        self.stream = stream
        self.dockerfile = dockerfile
        self.dockerfile_text = dockerfile_text
        self.remote = remote
        self.named: dict[str, str] = {}
        # What is sent, when it is one folder of this machine and nothing else.
        self.listing: Callable[[], Listing] | None = None


def open_context(source: str, dockerfile: str, named: list[str]) -> Context:
    """The context that the command line asks for; raises CommandFailed."""
    if source == "-":
        context = _open_standard_input(dockerfile)
    elif source.startswith(REMOTE_PREFIXES) and not os.path.isdir(source):
        context = Context(_nothing, dockerfile=dockerfile, remote=source)
        if dockerfile == "-":
            context.dockerfile = ""
            context.dockerfile_text = _encode_text(_read_all(b""))
    else:
        context = _open_folder(source, dockerfile)
    _add_named(context, named)
    return context


def _nothing() -> Iterator[bytes]:
    yield from ()


def _open_standard_input(dockerfile: str) -> Context:
    if dockerfile == "-":
        raise CommandFailed(
            "invalid argument: can't use stdin for both build context and dockerfile"
        )
    head = b""
    while len(head) < HEAD_BYTES:
        piece = os.read(0, HEAD_BYTES - len(head))
        if not piece:
            break
        head += piece
    if not head:
        raise CommandFailed("unable to prepare context: no context given on standard input")
    if is_archive(head):

        def stream() -> Iterator[bytes]:
            yield head
            while piece := os.read(0, CHUNK):
                yield piece

        return Context(stream, dockerfile=dockerfile)
    if dockerfile:
        raise CommandFailed(
            "unable to prepare context: ambiguous Dockerfile source: both stdin and flag correspond to Dockerfiles"
        )
    text = _read_all(head)
    return Context(lambda: _one_file("Dockerfile", text), dockerfile="Dockerfile")


def _open_folder(source: str, dockerfile: str) -> Context:
    folder = os.path.abspath(source)
    if not os.path.isdir(folder):
        if os.path.exists(folder):
            raise CommandFailed(f"unable to prepare context: context must be a directory: {folder}")
        raise CommandFailed(f'unable to prepare context: path "{source}" not found')
    text = None
    if dockerfile == "-":
        text = _encode_text(_read_all(b""))
        name = ""
    else:
        path = os.path.abspath(dockerfile) if dockerfile else os.path.join(folder, "Dockerfile")
        if not dockerfile and not os.path.lexists(path):
            lower = os.path.join(folder, "dockerfile")
            path = lower if os.path.lexists(lower) else path
        if not os.path.exists(path):
            raise CommandFailed(
                "unable to prepare context: unable to evaluate symlinks in Dockerfile path: "
                f"lstat {path}: no such file or directory"
            )
        name = os.path.relpath(os.path.realpath(path), os.path.realpath(folder))
        if name.startswith("../"):
            with open(path, "rb") as file:
                text = _encode_text(file.read())
            name = ""
    matcher = _read_ignore(folder, name)
    keep = _keeper(matcher, name)

    def stream() -> Iterator[bytes]:
        yield from _pack_contents(folder, "", keep)
        yield bytes(2 * BLOCK)

    context = Context(stream, dockerfile=name, dockerfile_text=text)
    context.listing = lambda: Listing(folder, keep)
    return context


def _read_ignore(folder: str, dockerfile: str) -> IgnoreMatcher | None:
    for name in (f"{dockerfile}.dockerignore" if dockerfile else "", ".dockerignore"):
        path = os.path.join(folder, name)
        if name and os.path.isfile(path):
            from wherry.build.ignore import compile_patterns, parse_ignore_file

            with open(path, encoding="utf-8", errors="surrogateescape") as file:
                return compile_patterns(parse_ignore_file(file.read()))
    return None


def _keeper(
    matcher: IgnoreMatcher | None, dockerfile: str
) -> Callable[[str, bool], tuple[bool, bool]]:
    """For a path: whether it goes in, and whether what is below it may."""
    needed = {dockerfile, f"{dockerfile}.dockerignore", ".dockerignore"}

    def keep(path: str, is_folder: bool) -> tuple[bool, bool]:  # noqa: FBT001 - two facts of a path
        if matcher is None or path in needed:
            return True, True
        if not matcher.matches(path):
            return True, True
        # The engine reads the Dockerfile from the context even if it is ignored.
        below = is_folder and (
            matcher.may_include_below(path) or any(name.startswith(f"{path}/") for name in needed)
        )
        return False, below

    return keep


def _pack_contents(
    folder: str, prefix: str, keep: Callable[[str, bool], tuple[bool, bool]] | None
) -> Iterator[bytes]:
    """The entries of a folder, without the folder itself and without the archive's end."""
    inodes: dict[tuple[int, int], str] = {}
    for entry in sorted(os.listdir(folder)):
        yield from pack(
            os.path.join(folder, entry),
            f"{prefix}/{entry}" if prefix else entry,
            keep=_below(entry, keep) if keep else None,
            owner=(0, 0),
            inodes=inodes,
            with_end=False,
        )


def _below(
    entry: str, keep: Callable[[str, bool], tuple[bool, bool]]
) -> Callable[[str, bool], tuple[bool, bool]]:
    return lambda inside, is_folder: keep(f"{entry}/{inside}" if inside else entry, is_folder)


def _add_named(context: Context, named: list[str]) -> None:
    folders = []
    for text in named:
        name, separator, value = text.partition("=")
        if not separator or not name or not value:
            raise CommandFailed(f"invalid context value: {text}, expected key=value")
        if value.startswith(("docker-image://", *REMOTE_PREFIXES)):
            context.named[name] = value
            continue
        if value.startswith("oci-layout://"):
            path, wanted = _split_layout(value.removeprefix("oci-layout://"))
            if not os.path.isfile(os.path.join(path, "index.json")):
                raise CommandFailed(f"failed to get build context {name}: no OCI layout at {path}")
            context.named[name] = f"oci-layout:{wanted}"
            folders.append((name, os.path.abspath(path)))
            continue
        if not os.path.isdir(value):
            raise CommandFailed(
                f"failed to get build context {name}: stat {value}: no such file or directory"
            )
        context.named[name] = "local"
        folders.append((name, os.path.abspath(value)))
    if folders:
        _add_folders(context, folders)


def _split_layout(text: str) -> tuple[str, str]:
    """`path[:tag|@digest]`: the path, and which image it is."""
    path, _, digest = text.partition("@")
    if digest:
        return path, digest
    head, colon, tag = path.rpartition(":")
    return (head, tag) if colon and "/" not in tag else (path, "latest")


def add_cache(context: Context, number: int, folder: str) -> None:
    """The folder of a `--cache-from type=local`; one that is not there yet gives no cache."""
    if os.path.isdir(folder):
        _add_folders(context, [(f"cache={number}", os.path.abspath(folder))])


def _add_folders(context: Context, folders: list[tuple[str, str]]) -> None:
    inner = context.stream
    context.listing = None

    def stream() -> Iterator[bytes]:
        # Before the rest, since that ends with the end of the archive.
        for name, folder in folders:
            yield from _pack_contents(folder, f"{NAMED_PREFIX}/{name}", None)
        yield from inner()

    context.stream = stream


def _one_file(name: str, content: bytes) -> Iterator[bytes]:
    import tarfile

    info = tarfile.TarInfo(name)
    info.size = len(content)
    info.mode = 0o644
    yield info.tobuf(tarfile.PAX_FORMAT)
    yield content
    yield bytes(-len(content) % BLOCK + 2 * BLOCK)


def _read_all(head: bytes) -> bytes:
    parts = [head]
    while piece := os.read(0, CHUNK):
        parts.append(piece)
    return b"".join(parts)


def _encode_text(text: bytes) -> str:
    import binascii

    return str(binascii.b2a_base64(text, newline=False), "ascii")
