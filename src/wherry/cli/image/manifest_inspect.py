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
    from wherry.cli.reference import Reference
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
        body = _read_manifest(session, reference.familiar, auth)
        manifest = as_document(decode(body))
        is_index = "manifests" in manifest
        if arguments.flag("verbose"):
            ref = f"{reference.name}:{reference.tag}"
            line_out(indent_json(_explain(session, reference, ref, body, auth), "\t"))
        elif is_index:
            entries: list[Json] = [
                _in_dockers_order(entry) for entry in documents_of(manifest, "manifests")
            ]
            line_out(indent_json({**manifest, "manifests": entries}, "   "))
        else:
            line_out(indent_json(manifest, "\t"))
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


def _explain(session: Session, reference: Reference, ref: str, body: bytes, auth: str) -> Json:
    """What `--verbose` shows: of an index, each manifest that it names."""
    manifest = as_document(decode(body))
    if "manifests" not in manifest:
        answer = session.client.images.distribution(reference.familiar, auth=auth)
        descriptor: Document = dict(mapping_of(answer, "Descriptor"))
        for platform in documents_of(answer, "Platforms")[:1]:
            descriptor["platform"] = dict(platform)
        return _one(ref, descriptor, body)
    explained: list[Json] = []
    for entry in documents_of(manifest, "manifests"):
        digest = text_of(entry, "digest")
        part = _read_manifest(session, f"{reference.familiar_name}@{digest}", auth)
        explained.append(_one(f"{ref}@{digest}", _in_dockers_order(entry, digest_first=True), part))
    return explained


def _one(ref: str, descriptor: Document, body: bytes) -> Document:
    from base64 import b64encode

    manifest = as_document(decode(body))
    kind = "OCIManifest"
    if text_of(manifest, "mediaType").startswith("application/vnd.docker."):
        kind = "SchemaV2Manifest"
    return {
        "Ref": ref,
        "Descriptor": descriptor,
        "Raw": b64encode(body).decode(),
        kind: manifest,
    }


def _in_dockers_order(entry: Document, *, digest_first: bool = False) -> Document:
    """An index's entry as Docker's records write it; what they do not know stays at the end."""
    names = ("mediaType", "digest", "size") if digest_first else ("mediaType", "size", "digest")
    platform = mapping_of(entry, "platform")
    parts: Document = {"platform": _reorder(platform, ("architecture", "os"))} if platform else {}
    return _reorder({**entry, **parts}, names)


def _reorder(document: Document, first: tuple[str, ...]) -> Document:
    ordered: Document = {name: document[name] for name in first if name in document}
    return ordered | {name: value for name, value in document.items() if name not in ordered}


def _read_manifest(session: Session, name: str, auth: str) -> bytes:
    """The manifest itself, which only a wherry engine gives."""
    from wherry.client.transport import quote

    response = session.client.transport.request(
        "GET",
        f"/wherry/manifests/{quote(name)}",
        headers={"X-Registry-Auth": auth} if auth else None,
    )
    return response.read()


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
