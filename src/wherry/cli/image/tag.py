"""wherry tag."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.errors import CommandFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session


def run(session: Session, arguments: Arguments) -> int:
    """Gives an image another name."""
    from wherry.cli.reference import check_reference, parse_reference

    source, target = arguments.positional
    for name in (source, target):
        try:
            if name == source:
                check_reference(name)
            else:
                parse_reference(name)
        except CommandFailed as exc:
            raise CommandFailed(
                f'Error parsing reference: "{name}" is not a valid repository/tag: {exc}'
            ) from exc
    reference = parse_reference(target)
    if reference.digest:
        raise CommandFailed("refusing to create a tag with a digest reference")
    session.client.images.tag(source, reference.name, reference.with_latest().tag)
    return 0


VERB = Verb(
    run,
    usage="SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
    aliases="image tag, tag",
    minimum=2,
    maximum=2,
    interspersed=False,
)
