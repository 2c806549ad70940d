"""Names of images: Docker's grammar, its normalisation and its error sentences.

The grammar is that of github.com/distribution/reference (regexp.go), the normalisation of its
normalize.go: `node` is docker.io/library/node. Beyond this module no code takes a reference apart.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from wherry.image.digest import parse_digest
from wherry.model.digest import Digest
from wherry.model.errors import InvalidArgument

DEFAULT_DOMAIN = "docker.io"
DEFAULT_TAG = "latest"
_LEGACY_DOMAIN = "index.docker.io"
_OFFICIAL = "library/"
_MAX_PATH = 255

_DOMAIN_COMPONENT = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_HOST = rf"(?:{_DOMAIN_COMPONENT}(?:\.{_DOMAIN_COMPONENT})*|\[(?:[a-fA-F0-9:]+)\])"
_DOMAIN = rf"{_HOST}(?::[0-9]+)?"
_PATH_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|[-]+)[a-z0-9]+)*"
_PATH = rf"{_PATH_COMPONENT}(?:/{_PATH_COMPONENT})*"
_TAG = r"[\w][\w.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*[:][0-9a-fA-F]{32,}"
_REFERENCE = re.compile(rf"(?:({_DOMAIN})/)?({_PATH})(?::({_TAG}))?(?:@({_DIGEST}))?", re.ASCII)
_NO_DIGEST = Digest("")
_TAG_ONLY = re.compile(_TAG, re.ASCII)
_ID = re.compile(r"[a-f0-9]{64}", re.ASCII)


class InvalidReference(InvalidArgument):
    """The text is not the name of an image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A parsed name; `tag` and `digest` are empty when they were not given."""

    domain: str
    path: str
    tag: str = ""
    digest: Digest = _NO_DIGEST

    @property
    def repository(self) -> str:
        """Canonical name without tag and digest: docker.io/library/node."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_repository(self) -> str:
        """The short name that people write: node."""
        if self.domain != DEFAULT_DOMAIN:
            return self.repository
        path = self.path.removeprefix(_OFFICIAL)
        return self.path if "/" in path else path

    def canonical(self) -> str:
        """docker.io/library/node:lts@sha256:…"""
        return self.repository + self._suffix()

    def familiar(self) -> str:
        """node:lts@sha256:…"""
        return self.familiar_repository + self._suffix()

    def with_default_tag(self) -> Reference:
        """Itself, tagged `latest` when it has neither tag nor digest."""
        return self if self.tag or self.digest else replace(self, tag=DEFAULT_TAG)

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse_reference(text: str) -> Reference:
    """The image that a person's text names. Raises InvalidReference with Docker's sentence."""
    if _ID.fullmatch(text):
        raise InvalidReference(
            f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings"
        )
    domain, remainder = _split_domain(text)
    repository = remainder.partition(":")[0]
    if repository.lower() != repository:
        raise InvalidReference(
            f"invalid reference format: repository name ({repository}) must be lowercase"
        )
    whole = f"{domain}/{remainder}"
    match = _REFERENCE.fullmatch(whole)
    if match is None:
        if _REFERENCE.fullmatch(whole.lower()):
            raise InvalidReference("repository name must be lowercase")
        raise InvalidReference("invalid reference format")
    if len(match[2]) > _MAX_PATH:
        raise InvalidReference("repository name must not be more than 255 characters")
    digest = parse_digest(match[4]) if match[4] else _NO_DIGEST
    return Reference(domain=match[1], path=match[2], tag=match[3] or "", digest=digest)


def parse_tagged(repository: str, tag: str) -> Reference:
    """A repository and a tag given apart, as the API does. Raises InvalidReference."""
    reference = parse_reference(repository)
    if not tag:
        return reference.with_default_tag()
    if _TAG_ONLY.fullmatch(tag) is None:
        raise InvalidReference("invalid tag format")
    return replace(reference, tag=tag, digest=_NO_DIGEST)


def is_image_id(text: str) -> bool:
    """Whether the text is a whole image id, with or without its algorithm."""
    return _ID.fullmatch(text.removeprefix("sha256:")) is not None


def _split_domain(text: str) -> tuple[str, str]:
    first, slash, rest = text.partition("/")
    if not slash:
        return DEFAULT_DOMAIN, _OFFICIAL + text
    if first == _LEGACY_DOMAIN:
        domain, remainder = DEFAULT_DOMAIN, rest
    elif first == "localhost" or "." in first or ":" in first or first.lower() != first:
        domain, remainder = first, rest
    else:
        domain, remainder = DEFAULT_DOMAIN, text
    if domain == DEFAULT_DOMAIN and "/" not in remainder:
        remainder = _OFFICIAL + remainder
    return domain, remainder
