"""wherry system prune."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.errors import CommandFailed
from wherry.cli.image.prune import deleted_lines
from wherry.cli.output import ask
from wherry.cli.prune import prune_filters, show_deleted, show_reclaimed
from wherry.client.document import number_of, strings_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session

OPTIONS = (
    ("all", "a", "bool", "", "Remove all unused images not just dangling ones"),
    ("filter", "", "filter", "", 'Provide filter values (e.g. "label=<key>=<value>")'),
    ("force", "f", "bool", "", "Do not prompt for confirmation"),
    ("volumes", "", "bool", "", "Prune anonymous volumes"),
)


def run(session: Session, arguments: Arguments) -> int:
    """Removes all that nothing uses."""
    client = session.client
    all_images, volumes = arguments.flag("all"), arguments.flag("volumes")
    filters = prune_filters(session, arguments)
    if volumes and "until" in filters:
        raise CommandFailed('ERROR: The "until" filter is not supported with "--volumes"')
    if not arguments.flag("force") and not ask(
        _warning(filters, all_images=all_images, volumes=volumes)
    ):
        return 0
    reclaimed = 0
    answer = client.containers.prune(filters)
    show_deleted("Deleted Containers:", strings_of(answer, "ContainersDeleted"))
    reclaimed += number_of(answer, "SpaceReclaimed")
    answer = client.networks.prune(filters)
    show_deleted("Deleted Networks:", strings_of(answer, "NetworksDeleted"))
    if volumes:
        answer = client.volumes.prune(filters)
        show_deleted("Deleted Volumes:", strings_of(answer, "VolumesDeleted"))
        reclaimed += number_of(answer, "SpaceReclaimed")
    answer = client.images.prune({**filters, "dangling": ["false" if all_images else "true"]})
    show_deleted("Deleted Images:", deleted_lines(answer))
    reclaimed += number_of(answer, "SpaceReclaimed")
    if not any(name in filters for name in ("label", "label!")):
        answer = client.builder.prune(all_=all_images, filters=filters)
        show_deleted("Deleted build cache objects:", strings_of(answer, "CachesDeleted"))
        reclaimed += number_of(answer, "SpaceReclaimed")
    show_reclaimed(reclaimed)
    return 0


def _warning(filters: dict[str, list[str]], *, all_images: bool, volumes: bool) -> str:
    what = ["all stopped containers", "all networks not used by at least one container"]
    if volumes:
        what.append("all anonymous volumes not used by at least one container")
    if all_images:
        what += ["all images without at least one container associated to them", "all build cache"]
    else:
        what += ["all dangling images", "unused build cache"]
    lines = ["WARNING! This will remove:", *(f"  - {item}" for item in what)]
    if filters:
        lines += ["", "  Items to be pruned will be filtered with:"]
        lines += [f"  - {name}={value}" for name in sorted(filters) for value in filters[name]]
    return "\n".join([*lines, "", "Are you sure you want to continue?"])


VERB = Verb(run, usage="[OPTIONS]", options=OPTIONS, maximum=0)
