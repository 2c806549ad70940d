"""wherry load."""

from __future__ import annotations

import os

from wherry.cli.command import Verb
from wherry.cli.errors import CommandFailed
from wherry.cli.output import is_terminal, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from wherry.cli.command import Arguments
    from wherry.cli.session import Session

OPTIONS = (
    ("input", "i", "string", "", "Read from tar archive file, instead of STDIN"),
    (
        "platform",
        "",
        "string",
        "",
        'Load only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")',
    ),
    ("quiet", "q", "bool", "", "Suppress the load output"),
)
CHUNK = 1 << 18


def run(session: Session, arguments: Arguments) -> int:
    """Loads images of an archive."""
    from wherry.cli.platform import encode_platform

    path = arguments.text("input")
    if path:
        fd = open_archive(path)
    elif is_terminal(0):
        raise CommandFailed("requested load from stdin, but stdin is empty")
    else:
        fd = 0
    quiet = arguments.flag("quiet") or not is_terminal(1)
    response = session.client.images.load(
        read_chunks(fd), quiet=quiet, platform=encode_platform(arguments.text("platform"))
    )
    if "json" in response.headers.get("content-type", ""):
        from wherry.cli.progress import show_progress
        from wherry.client.noun import read_documents

        show_progress(read_documents(response), 1)
    else:
        for piece in response.chunks():
            write_all(1, piece)
    return 0


def open_archive(path: str) -> int:
    """A descriptor of a file to send."""
    if os.path.isdir(path):
        raise CommandFailed(f"read {path}: is a directory")
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def read_chunks(fd: int) -> Iterator[bytes]:
    """The content of a descriptor, in pieces."""
    while piece := os.read(fd, CHUNK):
        yield piece


VERB = Verb(run, usage="[OPTIONS]", aliases="image load, load", options=OPTIONS, maximum=0)
