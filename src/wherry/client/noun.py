"""What the nouns share: JSON requests, JSON answers, streams of JSON, encoded filters."""

from __future__ import annotations

from wherry.client.document import as_document, as_documents, decode, decode_stream, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from wherry.client.document import Document, Json
    from wherry.client.transport import Response, Transport

JSON_TYPE = {"Content-Type": "application/json"}


class Noun:
    """A group of requests of one engine."""

    __slots__ = ("transport",)

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    def get(self, target: str) -> Document:
        """The object that GET answers."""
        return as_document(decode(self.transport.request("GET", target).read()))

    def get_list(self, target: str) -> list[Document]:
        """The array of objects that GET answers."""
        return as_documents(decode(self.transport.request("GET", target).read()))

    def post(
        self, target: str, document: Json = None, headers: Mapping[str, str] | None = None
    ) -> Document:
        """The object that POST answers, or an empty one; `document` is sent as JSON."""
        if document is None:
            response = self.transport.request("POST", target, headers=dict(headers or {}))
        else:
            response = self.transport.request(
                "POST",
                target,
                body=encode(document).encode(),
                headers={**JSON_TYPE, **(headers or {})},
            )
        body = response.read()
        return as_document(decode(body)) if body.strip() else {}

    def delete(self, target: str) -> Json:
        """What DELETE answers."""
        body = self.transport.request("DELETE", target).read()
        return decode(body) if body.strip() else None


def read_documents(response: Response) -> Iterator[Document]:
    """The objects of a stream of JSON, each as soon as it is complete."""
    rest = ""
    pending = b""
    complete = False
    try:
        for piece in response.chunks():
            pending += piece
            try:
                text = str(pending, "utf-8")
            except UnicodeDecodeError as exc:
                # A character is cut by the end of the chunk.
                text = str(pending[: exc.start], "utf-8")
                pending = pending[exc.start :]
            else:
                pending = b""
            values, rest = decode_stream(rest + text)
            for value in values:
                yield as_document(value)
        complete = True
    finally:
        if not complete:
            # The caller has left the stream: what is still to come must not be taken for an answer.
            response.close()


def encode_filters(filters: Mapping[str, Sequence[str]] | None) -> str:
    """The `filters` query value; empty when there are none."""
    if not filters:
        return ""
    return encode({name: dict.fromkeys(values, True) for name, values in filters.items()})
