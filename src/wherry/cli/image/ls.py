"""wherry images."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.errors import CommandFailed
from wherry.cli.formats import FORMAT_HELP, read_filters
from wherry.cli.image.columns import (
    DEFAULT,
    DEFAULT_WITH_DIGEST,
    expand_names,
    image_columns,
)
from wherry.cli.table import show

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session

OPTIONS = (
    ("all", "a", "bool", "", "Show all images (default hides intermediate images)"),
    ("digests", "", "bool", "", "Show digests"),
    ("filter", "f", "filter", "", "Filter output based on conditions provided"),
    ("format", "", "string", "", FORMAT_HELP),
    ("no-trunc", "", "bool", "", "Don't truncate output"),
    ("quiet", "q", "bool", "", "Only show image IDs"),
    ("tree", "", "bool", "", "List multi-platform images as a tree (EXPERIMENTAL)"),
)
RAW = (
    "repository: {{.Repository}}\ntag: {{.Tag}}\nimage_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\n"
    "virtual_size: {{.Size}}\n"
)


def run(session: Session, arguments: Arguments) -> int:
    """Lists images."""
    filters = read_filters(arguments)
    if arguments.positional:
        filters.setdefault("reference", []).append(arguments.positional[0])
    if arguments.flag("tree"):
        for option in ("quiet", "no-trunc", "digests", "format"):
            if option in arguments.changed:
                shown = {"no-trunc": "--no-trunc", "digests": "--show-digest"}
                raise CommandFailed(
                    f"{shown.get(option, f'--{option}')} is not yet supported with --tree"
                )
        from wherry.cli.image.platforms import show_platforms

        show_platforms(session, filters, all_=arguments.flag("all"))
        return 0
    quiet = arguments.flag("quiet")
    layout = arguments.text("format")
    if not layout and not quiet and session.has_config:
        layout = session.config.text("imagesFormat")
    images = session.client.images.list_all(all_=arguments.flag("all"), filters=filters)
    images.sort(key=lambda image: -_created(image))
    digests = arguments.flag("digests")
    if quiet and layout in {"", "table"}:
        layout = "{{.ID}}"
    elif quiet and layout == "raw":
        layout = "image_id: {{.ID}}"
    with_digests = (digests and layout in {"", "table"}) or ".Digest" in layout
    show(
        image_columns(truncate=not arguments.flag("no-trunc")),
        expand_names(images, digests=with_digests),
        layout,
        default=DEFAULT_WITH_DIGEST if digests else DEFAULT,
        raw=RAW,
    )
    return 0


def _created(image: object) -> int:
    created = image.get("Created") if isinstance(image, dict) else 0
    return created if isinstance(created, int) else 0


VERB = Verb(
    run,
    usage="[OPTIONS] [REPOSITORY[:TAG]]",
    aliases="image ls, image list, images",
    options=OPTIONS,
    maximum=1,
)
