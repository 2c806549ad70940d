"""wherry manifest inspect: the descriptor and platforms of an image as its registry knows it.

Docker's client asks the registry itself; ours asks through the engine, so that mirrors, proxies and
certificates are those of the engine.
"""

from __future__ import annotations

from wherry.cli.command import Verb
from wherry.cli.credentials import registry_auth
from wherry.cli.errors import CommandFailed
from wherry.cli.gofmt import indent_json
from wherry.cli.output import line_out
from wherry.client.document import as_document, decode, documents_of, mapping_of, text_of
from wherry.client.errors import ApiError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.cli.command import Arguments
    from wherry.cli.session import Session
    from wherry.client.document import Document, Json

OPTIONS = (
    ("insecure", "", "bool", "", "Allow communication with an insecure registry"),
    ("verbose", "v", "bool", "", "Output additional info including layers and platform"),
)


def run(session: Session, arguments: Arguments) -> int:
    """Shows the manifest of an image in a registry."""
    from wherry.cli.reference import parse_reference

    reference = parse_reference(arguments.positional[-1]).with_latest()
    auth = registry_auth(session, reference.domain)
    client = session.client
    try:
        manifest = _raw_manifest(session, reference.familiar, auth)
        is_index = isinstance(manifest, dict) and "manifests" in manifest
        line_out(indent_json(manifest, "   " if is_index else "\t"))
        return 0
    except ApiError as exc:
        if exc.status not in {404, 501}:
            raise
    try:
        answer = client.images.distribution(reference.familiar, auth=auth)
    except ApiError as exc:
        raise CommandFailed(f"no such manifest: {reference.name}:{reference.tag}") from exc
    line_out(indent_json(_describe(answer), "   "))
    return 0


def _raw_manifest(session: Session, name: str, auth: str) -> Json:
    """The manifest itself, which only a wherry engine gives."""
    from wherry.client.transport import quote

    response = session.client.transport.request(
        "GET",
        f"/wherry/manifests/{quote(name)}",
        headers={"X-Registry-Auth": auth} if auth else None,
    )
    return decode(response.read())


def _describe(answer: Document) -> Document:
    descriptor = mapping_of(answer, "Descriptor")
    platforms = documents_of(answer, "Platforms")
    document: Document = {
        "schemaVersion": 2,
        "mediaType": text_of(descriptor, "mediaType"),
        "digest": text_of(descriptor, "digest"),
        "size": as_document(descriptor).get("size"),
        "platforms": [dict(platform) for platform in platforms],
    }
    return document


VERB = Verb(
    run,
    usage="[OPTIONS] [MANIFEST_LIST] MANIFEST",
    options=OPTIONS,
    minimum=1,
    maximum=2,
)
