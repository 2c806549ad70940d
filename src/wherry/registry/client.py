"""The distribution API of one endpoint for one user: manifests, blobs, uploads, tags, login, search.

Retries nothing (the callers own the policy) except a request that a challenge interrupted. Content is checked
here where it is whole (manifests); blobs are streamed and checked by who stores them.
Specification: https://github.com/opencontainers/distribution-spec/blob/main/spec.md
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import quote, urlencode, urljoin, urlsplit, urlunsplit

from wherry.lib.jsonvalue import JsonError, JsonObject, JsonValue, get_str, get_strings
from wherry.model.image import Descriptor, Digest
from wherry.model.oci_image import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    INDEX_TYPES,
    MANIFEST_TYPES,
    MAX_MANIFEST_BYTES,
    OCI_INDEX,
    OCI_MANIFEST,
)
from wherry.registry.auth import ANONYMOUS, Authorizer, Credentials
from wherry.registry.challenge import repository_scope
from wherry.registry.endpoints import Endpoint
from wherry.registry.errors import ContentMismatch, ResponseError
from wherry.registry.transport import Response, Transport, redact, same_origin

_ACCEPT = ", ".join((DOCKER_MANIFEST, DOCKER_LIST, OCI_MANIFEST, OCI_INDEX, "*/*"))

_MAX_TAGS_BODY = 16 * 1024 * 1024
_MAX_TAG_PAGES = 1000
_LINK_NEXT = re.compile(r'<([^>]*)>\s*;[^,]*\brel="?next"?')
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A manifest or index as the registry sent it; the digest is of these very bytes."""

    descriptor: Descriptor
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobBody:
    """An open blob: `chunks` begins at `offset`, which is 0 when the server ignores ranges."""

    offset: int
    size: int | None
    chunks: AsyncIterator[bytes]


@dataclass(slots=True, kw_only=True)
class Upload:
    """An upload session: where the next bytes go, and how many the registry has."""

    url: str
    offset: int = 0


class RegistryClient:
    """One endpoint, one user. Repository names are paths without the registry's name."""

    def __init__(
        self,
        transport: Transport,
        endpoint: Endpoint,
        credentials: Credentials = ANONYMOUS,
        *,
        offline: bool = False,
    ) -> None:
        self.endpoint = endpoint
        self._transport = transport
        self._authorizer = Authorizer(transport, endpoint, credentials, offline=offline)

    @property
    def refresh_token(self) -> str:
        """What a login leaves behind instead of the password; empty when the registry gives none."""
        return self._authorizer.refresh_token

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        url: str,
        scopes: tuple[str, ...],
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | AsyncIterable[bytes] | None = None,
        body_size: int | None = None,
    ) -> AsyncIterator[Response]:
        target = url if "://" in url else f"{self.endpoint.url}{url}"
        while True:
            # An upload session's URL may be on another host, which is told nothing of our credentials.
            ours = same_origin(target, self.endpoint.url)
            authorization = await self._authorizer.authorization(scopes) if ours else ""
            async with self._transport.request(
                self.endpoint,
                method,
                target,
                headers=headers,
                body=body,
                body_size=body_size,
                authorization=authorization,
            ) as response:
                refused = response.status == 401 and same_origin(response.url, target)
                repeatable = body is None or isinstance(body, bytes)
                if refused and repeatable and await self._authorizer.learn(response, scopes):
                    continue
                yield response
                return

    async def ping(self) -> None:
        """`GET /v2/`: whether this is a registry that lets the user in. Raises RegistryFailure."""
        async with self._request("GET", "/v2/", ()) as response:
            if response.status != 200:
                raise await response.error()

    async def head_manifest(self, path: str, reference: str) -> Descriptor | None:
        """What a tag or digest is now, without its content (not counted as a pull by Docker Hub).

        None when the server does not say enough; raises ResponseError for a failure with a meaning.
        """
        async with self._request(
            "HEAD",
            f"/v2/{path}/manifests/{reference}",
            (repository_scope(path, "pull"),),
            headers={"Accept": _ACCEPT},
        ) as response:
            if response.status != 200:
                return None
            digest, size = response.header("Docker-Content-Digest"), response.content_length
            if not digest or not size:
                return None
            media_type = _media_type(response)
            return Descriptor(media_type=media_type, digest=Digest(digest), size=size)

    async def get_manifest(self, path: str, reference: str) -> Manifest:
        """The manifest or index of a tag or digest.

        Raises ContentMismatch when it is not what the digest, or the registry's own header, says.
        """
        async with self._request(
            "GET",
            f"/v2/{path}/manifests/{reference}",
            (repository_scope(path, "pull"),),
            headers={"Accept": _ACCEPT},
        ) as response:
            if response.status != 200:
                raise await response.error()
            body = await response.read(MAX_MANIFEST_BYTES)
            expected = response.header("Docker-Content-Digest")
            if ":" in reference:
                expected = reference
            algorithm = expected.partition(":")[0]
            digest = compute_digest(body, algorithm if algorithm == "sha512" else "sha256")
            if expected and digest != expected:
                raise ContentMismatch(f"manifest verification failed for digest {expected}")
            return Manifest(
                descriptor=Descriptor(
                    media_type=_manifest_type(response, body), digest=digest, size=len(body)
                ),
                body=body,
            )

    @asynccontextmanager
    async def open_blob(
        self, path: str, digest: Digest, offset: int = 0
    ) -> AsyncIterator[BlobBody]:
        """A blob from `offset` on, or from 0 when the server answers with the whole."""
        scopes = (repository_scope(path, "pull"),)
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        async with self._request(
            "GET", f"/v2/{path}/blobs/{digest}", scopes, headers=headers
        ) as response:
            if response.status == 416 and offset:
                # The server dislikes the range: the whole is asked for.
                async with self.open_blob(path, digest) as whole:
                    yield whole
                return
            if response.status not in {200, 206}:
                raise await response.error()
            start, size = _body_range(response)
            if start > offset:
                raise ContentMismatch(f"blob {digest}: asked for byte {offset}, got byte {start}")
            yield BlobBody(offset=start, size=size, chunks=response.chunks())

    async def find_blob(self, path: str, digest: Digest) -> int | None:
        """The size of a blob that the repository has; None when it has not."""
        scopes = (repository_scope(path, "pull"),)
        async with self._request("HEAD", f"/v2/{path}/blobs/{digest}", scopes) as response:
            if response.status == 404:
                return None
            if response.status != 200:
                raise await response.error()
            return response.content_length or 0

    async def start_upload(
        self, path: str, digest: Digest | None = None, mount_from: str = ""
    ) -> Upload | None:
        """Opens an upload session; None when the registry mounted the blob from `mount_from` instead."""
        scopes = [repository_scope(path, "pull", "push")]
        url = f"/v2/{path}/blobs/uploads/"
        if digest is not None and mount_from:
            scopes.append(repository_scope(mount_from, "pull"))
            url += "?" + urlencode({"mount": digest, "from": mount_from})
        async with self._request(
            "POST", url, tuple(scopes), headers={"Content-Length": "0"}
        ) as response:
            if response.status == 201:
                return None
            if response.status != 202:
                raise await response.error()
            return Upload(url=response.location())

    async def put_blob(self, path: str, upload: Upload, digest: Digest, body: bytes) -> None:
        """Sends a whole small blob and closes the session (monolithic upload)."""
        await self._finish(path, upload, digest, body)

    async def send_chunk(
        self, path: str, upload: Upload, body: AsyncIterable[bytes], size: int
    ) -> None:
        """Appends `size` bytes at `upload.offset`; the session moves on. After a failure ask `refresh_upload`."""
        headers = {"Content-Type": "application/octet-stream"}
        if upload.offset:
            headers["Content-Range"] = f"{upload.offset}-{upload.offset + size - 1}"
        scopes = (repository_scope(path, "pull", "push"),)
        async with self._request(
            "PATCH", upload.url, scopes, headers=headers, body=body, body_size=size
        ) as response:
            if response.status not in {202, 204, 201}:
                raise await response.error()
            upload.url = response.location()
            upload.offset += size

    async def refresh_upload(self, path: str, upload: Upload) -> bool:
        """After a broken connection: what the registry has got. False when the session is gone."""
        scopes = (repository_scope(path, "pull", "push"),)
        async with self._request("GET", upload.url, scopes) as response:
            if response.status != 204:
                return False
            upload.url = response.location() if response.header("Location") else upload.url
            first, _, last = response.header("Range").removeprefix("bytes=").partition("-")
            # distribution answers "0-0" both for an empty session and for one byte.
            upload.offset = (
                int(last) + 1 if first == "0" and last.isdecimal() and last != "0" else 0
            )
            return True

    async def finish_upload(self, path: str, upload: Upload, digest: Digest) -> None:
        """Closes the session; the registry checks the digest."""
        await self._finish(path, upload, digest, b"")

    async def _finish(self, path: str, upload: Upload, digest: Digest, body: bytes) -> None:
        parts = urlsplit(upload.url)
        query = f"{parts.query}&" if parts.query else ""
        url = urlunsplit(parts._replace(query=query + urlencode({"digest": digest})))
        scopes = (repository_scope(path, "pull", "push"),)
        headers = {"Content-Type": "application/octet-stream"}
        async with self._request(
            "PUT", url, scopes, headers=headers, body=body, body_size=len(body)
        ) as response:
            if response.status not in {201, 204}:
                raise await response.error()

    async def put_manifest(self, path: str, reference: str, media_type: str, body: bytes) -> None:
        """Stores a manifest or index under a tag or digest."""
        scopes = (repository_scope(path, "pull", "push"),)
        async with self._request(
            "PUT",
            f"/v2/{path}/manifests/{reference}",
            scopes,
            headers={"Content-Type": media_type},
            body=body,
            body_size=len(body),
        ) as response:
            if response.status not in {200, 201, 202}:
                raise await response.error()

    async def list_tags(self, path: str) -> tuple[str, ...]:
        """All tags of a repository, as the registry orders them; follows its pages."""
        tags: list[str] = []
        url = f"{self.endpoint.url}/v2/{path}/tags/list"
        for _ in range(_MAX_TAG_PAGES):
            async with self._request("GET", url, (repository_scope(path, "pull"),)) as response:
                if response.status != 200:
                    raise await response.error()
                document = _parse_json(response, await response.read(_MAX_TAGS_BODY))
                tags += get_strings(document, "tags")
                following = _LINK_NEXT.search(response.header("Link"))
            if following is None:
                break
            try:
                url = urljoin(url, following.group(1))
            except ValueError as exc:
                raise ContentMismatch(f"list of tags has a malformed Link: {exc}") from exc
            if not same_origin(url, self.endpoint.url):
                raise ContentMismatch(f"list of tags goes on at {redact(url)}: refused")
        return tuple(dict.fromkeys(tags))

    async def search(self, term: str, limit: int) -> JsonObject:
        """`GET /v1/search`: the old index API, which Docker Hub still answers."""
        query = urlencode({"q": term, "n": limit}, quote_via=quote)
        async with self._request("GET", f"/v1/search?{query}", ()) as response:
            if response.status != 200:
                raise ResponseError(
                    response.status, (), f"Unexpected status code {response.status}"
                )
            return _parse_json(response, await response.read(_MAX_TAGS_BODY))


def compute_digest(body: bytes, algorithm: str = "sha256") -> Digest:
    """The digest of some bytes. Raises ContentMismatch for an algorithm that is not in use."""
    if algorithm not in {"sha256", "sha512"}:
        raise ContentMismatch(f"unsupported digest algorithm {algorithm}")
    return Digest(f"{algorithm}:{hashlib.new(algorithm, body).hexdigest()}")


def _media_type(response: Response) -> str:
    return response.header("Content-Type").partition(";")[0].strip().lower()


def _manifest_type(response: Response, body: bytes) -> str:
    """The field of the answer; the document's own `mediaType` when the answer is vague."""
    media_type = _media_type(response)
    if media_type in INDEX_TYPES | MANIFEST_TYPES:
        return media_type
    try:
        return get_str(_parse_json(response, body), "mediaType") or media_type
    except JsonError:
        return media_type


def _parse_json(response: Response, body: bytes) -> JsonObject:
    try:
        document: JsonValue = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise ContentMismatch(f"answer of {redact(response.url)} is not JSON: {exc}") from exc
    if not isinstance(document, dict):
        raise ContentMismatch(f"answer of {redact(response.url)} is not a JSON object")
    return document


def _body_range(response: Response) -> tuple[int, int | None]:
    if response.status == 200:
        return 0, response.content_length
    found = _CONTENT_RANGE.match(response.header("Content-Range").strip())
    if found is None:
        raise ContentMismatch(f"answer of {redact(response.url)} has no usable Content-Range")
    return int(found.group(1)), None if found.group(3) == "*" else int(found.group(3))
