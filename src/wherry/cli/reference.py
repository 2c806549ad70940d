"""Image references: Docker's grammar and normal form, as far as the command line needs them."""

from __future__ import annotations

import re

from wherry.cli.errors import CommandFailed

DOMAIN = (
    r"(?:(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
    r"(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
)
COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
REFERENCE = re.compile(
    rf"(?:({DOMAIN})/)?({COMPONENT}(?:/{COMPONENT})*)"
    r"(?::([\w][\w.-]{0,127}))?"
    r"(?:@([A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}))?\Z"
)
IDENTIFIER = re.compile(r"[a-f0-9]{64}\Z")
DEFAULT_DOMAIN = "docker.io"


class Reference:
    """A name in parts; `familiar_name` is what people write."""

    __slots__ = ("digest", "domain", "path", "tag")

    def __init__(self, domain: str, path: str, tag: str, digest: str) -> None:
        self.domain = domain
        self.path = path
        self.tag = tag
        self.digest = digest

    @property
    def familiar_name(self) -> str:
        """The name without docker.io and library."""
        if self.domain != DEFAULT_DOMAIN:
            return f"{self.domain}/{self.path}"
        return self.path.removeprefix("library/")

    @property
    def name(self) -> str:
        """Domain and path."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar(self) -> str:
        """The familiar name with tag and digest as they are."""
        tag = f":{self.tag}" if self.tag else ""
        digest = f"@{self.digest}" if self.digest else ""
        return f"{self.familiar_name}{tag}{digest}"

    def with_latest(self) -> Reference:
        """Itself, with the tag latest if it has neither tag nor digest."""
        if self.tag or self.digest:
            return self
        return Reference(self.domain, self.path, "latest", "")


def parse_reference(text: str) -> Reference:
    """The parts of a normalised reference; raises CommandFailed with Docker's sentence."""
    if IDENTIFIER.match(text):
        raise CommandFailed(
            f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
        )
    domain, remainder = _split_domain(text)
    path = remainder.partition("@")[0].partition(":")[0]
    if path.lower() != path:
        raise CommandFailed(f"invalid reference format: repository name ({path}) must be lowercase")
    match = REFERENCE.match(f"{domain}/{remainder}")
    if match is None or match[1] is None:
        raise CommandFailed("invalid reference format")
    return Reference(match[1], match[2], match[3] or "", match[4] or "")


def check_reference(text: str) -> None:
    """Refuses what is neither a reference nor an id."""
    if not IDENTIFIER.match(text) and not text.startswith("sha256:"):
        parse_reference(text)


def familiar(text: str) -> str:
    """How messages show an image: `busybox` as `busybox:latest`."""
    return parse_reference(text).with_latest().familiar


def _split_domain(text: str) -> tuple[str, str]:
    domain, separator, remainder = text.partition("/")
    if not separator or (
        "." not in domain
        and ":" not in domain
        and domain != "localhost"
        and domain.lower() == domain
    ):
        domain, remainder = DEFAULT_DOMAIN, text
    if domain == "index.docker.io":
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in remainder:
        remainder = f"library/{remainder}"
    return domain, remainder
