"""Registries for tests: Debian's docker-registry on a loopback port, and images made in memory to fill it."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import http.client
import io
import json
import shutil
import socket
import ssl
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

DEADLINE_S = 60.0
USER, PASSWORD = "wherry", "secret"
# crypt("secret", "$2y$05$…"): docker-registry takes bcrypt only.
_HTPASSWD = f"{USER}:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n"

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def make_layer(files: Mapping[str, bytes]) -> bytes:
    """An uncompressed layer."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            entry.mode = 0o755
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


@dataclass
class TestImage:
    """An image of one platform: blobs by digest, and the manifest."""

    __test__ = False

    manifest: bytes
    media_type: str
    blobs: dict[str, bytes] = field(default_factory=dict)
    layers: list[str] = field(default_factory=list)
    diff_ids: list[str] = field(default_factory=list)
    config: str = ""

    @property
    def digest(self) -> str:
        return digest_of(self.manifest)


def make_image(
    layers: Sequence[Mapping[str, bytes]],
    *,
    architecture: str = "amd64",
    variant: str = "",
    labels: Mapping[str, str] | None = None,
) -> TestImage:
    """An OCI image with gzip layers."""
    blobs: dict[str, bytes] = {}
    descriptors, diff_ids = [], []
    for files in layers:
        tar = make_layer(files)
        packed = gzip.compress(tar, mtime=0, compresslevel=1)
        blobs[digest_of(packed)] = packed
        diff_ids.append(digest_of(tar))
        descriptors.append(
            {
                "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                "digest": digest_of(packed),
                "size": len(packed),
            }
        )
    config = json.dumps(
        {
            "architecture": architecture,
            "os": "linux",
            **({"variant": variant} if variant else {}),
            "config": {"Cmd": ["/init"], "Labels": dict(labels or {})},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        }
    ).encode()
    blobs[digest_of(config)] = config
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": digest_of(config),
            "size": len(config),
        },
        "layers": descriptors,
    }
    return TestImage(
        manifest=json.dumps(manifest).encode(),
        media_type=OCI_MANIFEST,
        blobs=blobs,
        layers=[str(descriptor["digest"]) for descriptor in descriptors],
        diff_ids=diff_ids,
        config=digest_of(config),
    )


def make_index(entries: Sequence[tuple[TestImage, str, str]]) -> bytes:
    """An index of (image, architecture, variant)."""
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [
                {
                    "mediaType": image.media_type,
                    "digest": image.digest,
                    "size": len(image.manifest),
                    "platform": {
                        "os": "linux",
                        "architecture": architecture,
                        **({"variant": variant} if variant else {}),
                    },
                }
                for image, architecture, variant in entries
            ],
        }
    ).encode()


class RegistryServer:
    """A docker-registry process. `tls` is (certificate, key); with `password` it wants basic authentication."""

    def __init__(
        self, *, password: bool = False, tls: tuple[Path, Path] | None = None, port: int = 0
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="wherry-registry-"))
        self.password = password
        self.tls = tls
        self.port = port or free_port()
        self._keeps_port = bool(port)
        self.client_ca: Path | None = None  # whose client certificates it wants
        self.client_certificate: tuple[Path, Path] | None = None  # what `request` shows
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}"

    def start(self) -> None:
        """Starts it; a port that another test took in the meantime is exchanged, unless it was given."""
        while not self._try_start():
            self.stop()
            assert not self._keeps_port, (self.folder / "log").read_text()
            self.port = free_port()
        self._keeps_port = True

    def _try_start(self) -> bool:
        (self.folder / "config.yml").write_text(json.dumps(self._config()))  # JSON is YAML
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                ["docker-registry", "serve", str(self.folder / "config.yml")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + DEADLINE_S
        while self.process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.02)
            else:
                # Somebody listens; if that is another, ours has failed to and is about to end.
                return self._listens()
        return False

    def _listens(self) -> bool:
        """Whether the socket that listens on the port is our process's."""
        assert self.process is not None
        inodes = set()
        for entry in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                inodes.add(str(entry.readlink()))
        wanted = f"0100007F:{self.port:04X}"
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[1] == wanted and fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                return True
        return False

    def _config(self) -> dict[str, object]:
        config: dict[str, object] = {
            "version": "0.1",
            "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {
                "filesystem": {"rootdirectory": str(self.folder / "data")},
                "delete": {"enabled": True},
            },
        }
        listen: dict[str, object] = {"addr": self.host}
        if self.tls is not None:
            tls: dict[str, object] = {"certificate": str(self.tls[0]), "key": str(self.tls[1])}
            if self.client_ca is not None:
                tls["clientcas"] = [str(self.client_ca)]
            listen["tls"] = tls
        config["http"] = listen
        if self.password:
            (self.folder / "htpasswd").write_text(_HTPASSWD)
            config["auth"] = {
                "htpasswd": {"realm": "basic-realm", "path": str(self.folder / "htpasswd")}
            }
        return config

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(DEADLINE_S)
            self.process = None

    def close(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def request(
        self, method: str, url: str, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """One request with the test's credentials."""
        parts = urlsplit(url if "://" in url else self.url + url)
        connection: http.client.HTTPConnection
        if self.tls is not None:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            if self.client_certificate is not None:
                context.load_cert_chain(*self.client_certificate)
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=context)
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port)
        sent = dict(headers or {})
        if self.password:
            pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            sent["Authorization"] = f"Basic {pair}"
        with contextlib.closing(connection):
            connection.request(method, f"{parts.path}?{parts.query}", body, sent)
            answer = connection.getresponse()
            fields = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, fields, answer.read()

    def put_blob(self, path: str, data: bytes) -> None:
        status, fields, _ = self.request("POST", f"/v2/{path}/blobs/uploads/")
        assert status == 202
        location = fields["location"]
        separator = "&" if "?" in location else "?"
        status, _, body = self.request(
            "PUT", f"{location}{separator}digest={digest_of(data)}", data
        )
        assert status == 201, body

    def put_image(self, path: str, reference: str, image: TestImage) -> None:
        """Pushes an image under a tag (or its digest)."""
        for data in image.blobs.values():
            self.put_blob(path, data)
        self.put_manifest(path, reference, image.media_type, image.manifest)

    def put_manifest(self, path: str, reference: str, media_type: str, body: bytes) -> None:
        status, _, answer = self.request(
            "PUT", f"/v2/{path}/manifests/{reference}", body, {"Content-Type": media_type}
        )
        assert status == 201, answer

    def get_manifest(self, path: str, reference: str) -> tuple[str, bytes]:
        """(media type, body)."""
        accept = (
            f"{OCI_MANIFEST}, {OCI_INDEX}, application/vnd.docker.distribution.manifest.v2+json"
        )
        status, fields, body = self.request(
            "GET", f"/v2/{path}/manifests/{reference}", headers={"Accept": accept}
        )
        assert status == 200, body
        return fields["content-type"], body


@contextlib.contextmanager
def running_registry(
    *, password: bool = False, tls: tuple[Path, Path] | None = None
) -> Iterator[RegistryServer]:
    """A registry for the length of a test or a module."""
    server = RegistryServer(password=password, tls=tls)
    try:
        server.start()
        yield server
    finally:
        server.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
