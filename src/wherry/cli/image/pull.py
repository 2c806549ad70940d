"""wherry pull."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.errors import CommandFailed
from wherry.cli.output import line_out

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session

OPTIONS = (
    ("all-tags", "a", "bool", "", "Download all tagged images in the repository"),
    ("disable-content-trust", "", "bool", "true", "Skip image verification"),
    ("platform", "", "string", "", "Set platform if server is multi-platform capable"),
    ("quiet", "q", "bool", "", "Suppress verbose output"),
)


def run(session: Session, arguments: Arguments) -> int:
    """Pulls an image."""
    from wherry.cli.reference import parse_reference

    name = arguments.positional[0]
    reference = parse_reference(name)
    all_tags = arguments.flag("all-tags")
    if all_tags and (reference.tag or reference.digest):
        raise CommandFailed("tag can't be used with --all-tags/-a")
    quiet = arguments.flag("quiet")
    if not all_tags and not reference.tag and not reference.digest:
        reference = reference.with_latest()
        if not quiet:
            line_out(f"Using default tag: {reference.tag}")
    pull_image(
        session,
        reference.familiar,
        platform=arguments.text("platform"),
        quiet=quiet,
        out_fd=1,
        all_tags=all_tags,
    )
    line_out(f"{reference.name}{_suffix(reference.tag, reference.digest)}")
    return 0


def _suffix(tag: str, digest: str) -> str:
    return (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")


def pull_image(
    session: Session,
    image: str,
    *,
    platform: str,
    quiet: bool,
    out_fd: int,
    all_tags: bool = False,
) -> None:
    """Pulls and shows the progress on `out_fd`; raises for an error in the stream."""
    from wherry.cli.credentials import registry_auth
    from wherry.cli.progress import show_progress
    from wherry.cli.reference import parse_reference

    reference = parse_reference(image)
    if not all_tags:
        reference = reference.with_latest()
    tag = reference.digest or reference.tag
    records = session.client.images.pull(
        reference.name,
        tag,
        platform=platform,
        auth=registry_auth(session, reference.domain),
    )
    show_progress(records, out_fd, quiet=quiet)


VERB = Verb(
    run,
    usage="[OPTIONS] NAME[:TAG|@DIGEST]",
    aliases="image pull, pull",
    options=OPTIONS,
    minimum=1,
    maximum=1,
)
