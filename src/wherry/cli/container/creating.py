"""Making a container, with the pull that may have to come first."""

from __future__ import annotations

import os

from wherry.cli.command import ValueRefused
from wherry.cli.container.create_options import build_body
from wherry.cli.errors import CommandFailed, RunFailed
from wherry.cli.output import line_error
from wherry.client.document import strings_of, text_of
from wherry.client.errors import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session
    from wherry.client.document import Document


def prepare_body(session: Session, arguments: Arguments, verb: str) -> Document:
    """The body of the create request; raises RunFailed for what cannot work."""
    try:
        pull = arguments.text("pull", "missing")
        if pull not in {"always", "missing", "never", ""}:
            raise ValueRefused(
                f'invalid pull option: \'{pull}\': must be one of "always", "missing" or "never"'
            )
        extra: tuple[str, ...] = ()
        if session.has_config:
            given = [*arguments.many("env")]
            extra = tuple(session.config.proxy_variables(session.address, given))
        return build_body(arguments, extra_env=extra)
    except (ValueRefused, OSError) as exc:
        raise RunFailed(exc, verb) from exc


def create_container(session: Session, arguments: Arguments, body: Document) -> str:
    """Makes the container and gives its id; pulls the image if it is missing and that is allowed."""
    image = arguments.positional[0]
    platform = arguments.text("platform")
    pull = arguments.text("pull", "missing")
    if not _is_plain(image):
        from wherry.cli.reference import check_reference

        check_reference(image)
    if platform.count("/") > 2:
        raise CommandFailed(
            f'error parsing specified platform: "{platform}": '
            "cannot parse platform specifier: invalid argument"
        )
    cidfile = _claim_cidfile(arguments.text("cidfile"))
    try:
        if pull == "always":
            _pull(session, image, platform, quiet=arguments.flag("quiet"))
        name = arguments.text("name")
        try:
            answer = session.client.containers.create(body, name=name, platform=platform)
        except ApiError as exc:
            if exc.status != 404 or pull not in {"missing", ""} or not _is_image_missing(exc):
                raise
            from wherry.cli.reference import familiar

            if not arguments.flag("quiet"):
                line_error(f"Unable to find image '{familiar(image)}' locally")
            _pull(session, image, platform, quiet=arguments.flag("quiet"))
            answer = session.client.containers.create(body, name=name, platform=platform)
    except BaseException:
        if cidfile:
            os.unlink(cidfile)
        raise
    for warning in strings_of(answer, "Warnings"):
        line_error(f"WARNING: {warning}")
    container = text_of(answer, "Id")
    if cidfile:
        with open(cidfile, "w", encoding="ascii") as file:
            file.write(container)
    return container


def _is_image_missing(error: ApiError) -> bool:
    """The image, or the platform of it that was asked for."""
    return any(
        words in error.message
        for words in ("o such image", "does not match the specified platform")
    )


def _is_plain(image: str) -> bool:
    """True for what needs no closer look: lower-case words with tag, no digest."""
    return (
        image.replace("-", "")
        .replace(".", "")
        .replace(":", "")
        .replace("/", "")
        .replace("_", "")
        .isalnum()
        and image[:1].isalnum()
        and image.islower()
        and image.isascii()
        and image.count(":") < 2
    )


def _claim_cidfile(path: str) -> str:
    if not path:
        return ""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
    except FileExistsError:
        raise CommandFailed(
            f"container ID file found, make sure the other container isn't running or delete {path}"
        ) from None
    except OSError as exc:
        reason = (exc.strerror or "").lower()
        raise CommandFailed(
            f"failed to create the container ID file: open {path}: {reason}"
        ) from exc
    return path


def _pull(session: Session, image: str, platform: str, *, quiet: bool) -> None:
    from wherry.cli.image.pull import pull_image

    pull_image(session, image, platform=platform, quiet=quiet, out_fd=2)
