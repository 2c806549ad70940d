"""The user's config.json: accounts, credential helpers, default formats, proxies for containers."""

from __future__ import annotations

import os

from wherry.cli.output import line_error
from wherry.client.document import (
    MalformedDocument,
    as_document,
    decode,
    mapping_of,
    text_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from wherry.client.document import Document

# config.json's key: the variable it sets, and its lower-case twin
PROXIES = {
    "httpProxy": "HTTP_PROXY",
    "httpsProxy": "HTTPS_PROXY",
    "noProxy": "NO_PROXY",
    "ftpProxy": "FTP_PROXY",
    "allProxy": "ALL_PROXY",
}


class UserConfig:
    """Reads config.json; a missing file is an empty one."""

    __slots__ = ("document", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self.document: Document = {}
        try:
            with open(path, "rb") as file:
                content = file.read()
        except OSError:
            return
        if not content.strip():
            return
        try:
            self.document = as_document(decode(content))
        except MalformedDocument as exc:
            line_error(f"WARNING: Error parsing config file ({path}): {exc}")

    def text(self, key: str) -> str:
        """A string of it, such as psFormat or detachKeys."""
        return text_of(self.document, key)

    def http_headers(self) -> dict[str, str]:
        """Headers to add to every request."""
        headers = mapping_of(self.document, "HttpHeaders")
        return {
            name: value
            for name, value in headers.items()
            if isinstance(value, str) and name.lower() != "user-agent"
        }

    def proxy_variables(self, host: str, given: list[str]) -> list[str]:
        """Environment variables of the proxies for containers of an engine, unless given."""
        proxies = mapping_of(self.document, "proxies")
        chosen = mapping_of(proxies, host) or mapping_of(proxies, "default")
        names = {variable.partition("=")[0] for variable in given}
        variables = []
        for key, name in PROXIES.items():
            value = text_of(chosen, key)
            if not value:
                continue
            variables += [
                f"{variable}={value}" for variable in (name, name.lower()) if variable not in names
            ]
        return variables

    def save(self) -> None:
        """Writes it back, readable by the user only."""
        import json

        folder = os.path.dirname(self.path)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        temporary = f"{self.path}.{os.getpid()}"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            file.write(json.dumps(self.document, indent="\t"))
            file.flush()
            os.fsync(fd)
        os.replace(temporary, os.path.realpath(self.path))
