"""wherry cp: files between a container and this machine, with the rules of `cp -r` and Docker's."""

from __future__ import annotations

import os
import stat

from wherry.cli.command import Verb
from wherry.cli.errors import CommandFailed
from wherry.cli.output import is_terminal, line_error, write_all
from wherry.cli.units import human_size
from wherry.client.document import number_of, text_of
from wherry.client.errors import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from wherry.cli.command import Arguments
    from wherry.cli.session import Session
    from wherry.client.document import Document

OPTIONS = (
    ("archive", "a", "bool", "", "Archive mode (copy all uid/gid information)"),
    ("follow-link", "L", "bool", "", "Always follow symbol link in SRC_PATH"),
    (
        "quiet",
        "q",
        "bool",
        "",
        "Suppress progress output during copy. Progress output is automatically suppressed if no terminal is attached",
    ),
)

# Go's os.FileMode, as the stat of a path carries it
GO_FOLDER = 1 << 31
GO_LINK = 1 << 27
GO_DEVICE = 1 << 26


def run(session: Session, arguments: Arguments) -> int:
    """Copies."""
    source, target = arguments.positional
    if not source:
        raise CommandFailed("source can not be empty")
    if not target:
        raise CommandFailed("destination can not be empty")
    source_container, source_path = split_argument(source)
    target_container, target_path = split_argument(target)
    if source_container and target_container:
        raise CommandFailed("copying between containers is not supported")
    quiet = arguments.flag("quiet") if "quiet" in arguments.changed else not is_terminal(1)
    follow = arguments.flag("follow-link")
    if source_container:
        _copy_out(session, source_container, source_path, target_path, follow=follow, quiet=quiet)
    elif target_container:
        _copy_in(
            session,
            source_path,
            target_container,
            target_path,
            follow=follow,
            quiet=quiet,
            owner=arguments.flag("archive"),
        )
    else:
        raise CommandFailed("must specify at least one container source")
    return 0


def split_argument(argument: str) -> tuple[str, str]:
    """Container and path of `name:path`; no container for a local path."""
    if argument.startswith("/"):
        return "", argument
    container, separator, path = argument.partition(":")
    if not separator or container.startswith("."):
        return "", argument
    return container, path


def split_entry(path: str) -> tuple[str, str]:
    """Folder and last name of a path; `/.` at its end stays the last name."""
    cleaned = os.path.normpath(path)
    if os.path.basename(path) == ".":
        cleaned += "/."
    folder, name = os.path.split(cleaned)
    return folder, name or "/"


def asserts_folder(path: str) -> bool:
    """True if the path can only be a folder: it ends with `/` or `/.`."""
    return path.endswith("/") or os.path.basename(path) == "."


def plan(
    *, source: str, source_is_folder: bool, target: str, exists: bool, target_is_folder: bool
) -> tuple[str, tuple[str, str] | None]:
    """The folder to extract in, and how to rename the archive's top (None: not at all)."""
    folder, name = split_entry(target)
    _, source_name = split_entry(source)
    if exists and target_is_folder:
        return target, None
    if exists and source_is_folder:
        raise CommandFailed("cannot copy directory")
    if not exists and not source_is_folder and asserts_folder(target):
        raise CommandFailed("no such directory")
    return folder, (source_name, name)


def _absolute(path: str) -> str:
    absolute = os.path.abspath(path)
    if os.path.basename(path) == ".":
        return f"{absolute}/."
    return f"{absolute}/" if path.endswith("/") and absolute != "/" else absolute


def _copy_out(
    session: Session, container: str, source: str, target: str, *, follow: bool, quiet: bool
) -> None:
    containers = session.client.containers
    rebased = ""
    if follow:
        try:
            status = containers.stat_path(container, source)
        except ApiError:
            status = {}
        if number_of(status, "mode") & GO_LINK:
            link = text_of(status, "linkTarget")
            if not link.startswith("/"):
                link = os.path.join(split_entry(source)[0], link)
            _, rebased = split_entry(source)
            source = link
    if target != "-":
        target = _absolute(target)
        from wherry.cli.save_to import check_output_path

        check_output_path(target)
    response, status = containers.get_archive(container, source)
    if target == "-":
        for piece in response.chunks():
            write_all(1, piece)
        return
    from wherry.cli.archive import unpack

    exists, is_folder, resolved = _look_at(target)
    source_name = rebased or split_entry(source)[1]
    folder, rename = plan(
        source=source,
        source_is_folder=bool(number_of(status, "mode") & GO_FOLDER),
        target=resolved,
        exists=exists,
        target_is_folder=is_folder,
    )
    if rebased:
        rename = (split_entry(source)[1], rename[1] if rename else source_name)
    try:
        total = unpack(response.chunks(), folder, rename=rename)
    except FileNotFoundError as exc:
        raise CommandFailed(f"{exc.strerror}: {folder}".lower()) from exc
    if not quiet:
        line_error(f"Successfully copied {human_size(total, 3)} to {target}")


def _look_at(path: str) -> tuple[bool, bool, str]:
    """Whether a local path exists, is a folder, and where it really is."""
    resolved = path
    if os.path.islink(path.rstrip("/")):
        resolved = os.path.realpath(path)
        if path.endswith("/"):
            resolved += "/"
    try:
        mode = os.stat(resolved).st_mode
    except OSError:
        return False, False, resolved
    return True, stat.S_ISDIR(mode), resolved


def _copy_in(
    session: Session,
    source: str,
    container: str,
    target: str,
    *,
    follow: bool,
    quiet: bool,
    owner: bool,
) -> None:
    containers = session.client.containers
    status, target_path = _stat_target(session, container, target)
    exists = bool(status)
    is_folder = bool(number_of(status, "mode") & GO_FOLDER)
    if number_of(status, "mode") & GO_DEVICE:
        raise CommandFailed(
            f'destination "{container}:{target}" must be a directory or a regular file: got a device'
        )
    counter = Counter()
    if source == "-":
        if not is_folder:
            raise CommandFailed(f'destination "{container}:{target}" must be a directory')
        from wherry.cli.image.load import read_chunks

        containers.put_archive(container, target_path, read_chunks(0), copy_owner=owner)
        return
    source = _absolute(source)
    shown = source
    try:
        if follow and os.path.islink(source.rstrip("/")):
            real = os.path.realpath(source)
            folder, rename = _plan_in(real, target_path, exists=exists, is_folder=is_folder)
            name = rename[1] if rename else split_entry(source)[1]
            source = real
        else:
            folder, rename = _plan_in(source, target_path, exists=exists, is_folder=is_folder)
            name = rename[1] if rename else split_entry(source)[1]
        from wherry.cli.archive import pack

        stream = pack(source, name.strip("/") or ".")
        containers.put_archive(container, folder, counter.count(stream), copy_owner=owner)
    except FileNotFoundError as exc:
        raise CommandFailed(f"lstat {shown}: no such file or directory") from exc
    if not quiet:
        line_error(
            f"Successfully copied {human_size(counter.total, 3)} to {container}:{target_path}"
        )


def _plan_in(
    source: str, target: str, *, exists: bool, is_folder: bool
) -> tuple[str, tuple[str, str] | None]:
    return plan(
        source=source,
        source_is_folder=stat.S_ISDIR(os.lstat(source).st_mode),
        target=target,
        exists=exists,
        target_is_folder=is_folder,
    )


def _stat_target(session: Session, container: str, target: str) -> tuple[Document, str]:
    containers = session.client.containers
    try:
        status = containers.stat_path(container, target)
    except ApiError:
        return {}, target
    if not number_of(status, "mode") & GO_LINK:
        return status, target
    link = text_of(status, "linkTarget")
    if not link.startswith("/"):
        link = os.path.join(split_entry(target)[0], link)
    try:
        return containers.stat_path(container, link), link
    except ApiError:
        return {}, link


class Counter:
    """Counts the bytes of a stream that passes."""

    __slots__ = ("total",)

    def __init__(self) -> None:
        self.total = 0

    def count(self, stream: Iterable[bytes]) -> Iterator[bytes]:
        """The stream itself."""
        for piece in stream:
            self.total += len(piece)
            yield piece


VERB = Verb(
    run,
    usage="[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|-\n\twherry cp [OPTIONS] SRC_PATH|- CONTAINER:DEST_PATH",
    description=(
        "Copy files/folders between a container and the local filesystem\n\n"
        "Use '-' as the source to read a tar archive from stdin\n"
        "and extract it to a directory destination in a container.\n"
        "Use '-' as the destination to stream a tar archive of a\n"
        "container source to stdout."
    ),
    aliases="container cp, cp",
    options=OPTIONS,
    minimum=2,
    maximum=2,
)
