"""wherry image inspect."""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.formats import INSPECT_FORMAT_HELP
from wherry.cli.inspecting import inspect_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session

OPTIONS = (
    ("format", "f", "string", "", INSPECT_FORMAT_HELP),
    (
        "platform",
        "",
        "string",
        "",
        (
            "Inspect a specific platform of the multi-platform image.\n"
            "If the image or the server is not multi-platform capable, the command will error out if the platform does not match.\n"
            "'os[/arch[/variant]]': Explicit platform (eg. linux/amd64)"
        ),
    ),
)


def run(session: Session, arguments: Arguments) -> int:
    """Shows everything known about images."""
    from wherry.cli.platform import encode_platform

    platform = encode_platform(arguments.text("platform"), head="")
    return inspect_all(
        arguments.positional,
        arguments.text("format"),
        lambda ref: session.client.images.inspect(ref, platform=platform),
    )


VERB = Verb(run, usage="[OPTIONS] IMAGE [IMAGE...]", options=OPTIONS, minimum=1)
