"""wherry push."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.credentials import registry_auth
from wherry.cli.errors import CommandFailed
from wherry.cli.output import line_out
from wherry.cli.progress import show_progress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session

OPTIONS = (
    ("all-tags", "a", "bool", "", "Push all tags of an image to the repository"),
    ("disable-content-trust", "", "bool", "true", "Skip image signing"),
    (
        "platform",
        "",
        "string",
        "",
        (
            "Push a platform-specific manifest as a single-platform image to the registry.\n"
            "Image index won't be pushed, meaning that other manifests, including attestations won't be preserved.\n"
            "'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)"
        ),
    ),
    ("quiet", "q", "bool", "", "Suppress verbose output"),
)

_ONE_PLATFORM = """
 Info -> Using --platform pushes only the specified platform manifest of a multi-platform image index.
         Other components, like attestations, will not be included.
         To push the complete multi-platform image, remove the --platform flag.
         """


def run(session: Session, arguments: Arguments) -> int:
    """Pushes an image."""
    from wherry.cli.platform import encode_platform
    from wherry.cli.reference import parse_reference

    reference = parse_reference(arguments.positional[0])
    all_tags = arguments.flag("all-tags")
    quiet = arguments.flag("quiet")
    if all_tags and reference.tag:
        raise CommandFailed("tag can't be used with --all-tags/-a")
    if reference.digest:
        raise CommandFailed("cannot push a digest reference")
    if not all_tags and not reference.tag:
        reference = reference.with_latest()
        if not quiet:
            line_out(f"Using default tag: {reference.tag}")
    platform = encode_platform(arguments.text("platform"))
    if platform:
        line_out(_ONE_PLATFORM)
    records = session.client.images.push(
        reference.name,
        "" if all_tags else reference.tag,
        platform=platform,
        auth=registry_auth(session, reference.domain),
    )
    show_progress(records, 1, quiet=quiet)
    if quiet:
        line_out(f"{reference.name}{f':{reference.tag}' if reference.tag else ''}")
    return 0


VERB = Verb(
    run,
    usage="[OPTIONS] NAME[:TAG]",
    aliases="image push, push",
    options=OPTIONS,
    minimum=1,
    maximum=1,
)
