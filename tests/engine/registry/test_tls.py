"""Registries behind TLS: private CAs and client certificates of certs.d, insecure ones, and Go's sentences."""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from tests.harness.fake_images import FakeImages
from tests.harness.registry import RegistryServer, make_image, running_registry
from tests.harness.registry_services import pull

from wherry.model.errors import EngineError
from wherry.registry.endpoints import RegistryConfig, build_registry_config


class Authority:
    """A private CA that writes certificates for names of this machine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "private CA")])
        self.certificate = folder / "ca.crt"
        built = self._builder(self._name, self._key.public_key()).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        signed = built.sign(self._key, hashes.SHA256())
        self.certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey
    ) -> x509.CertificateBuilder:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
        )

    def issue(self, name: str, *names: x509.GeneralName) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = self._builder(subject, key.public_key()).add_extension(
            x509.SubjectAlternativeName(list(names)), critical=False
        )
        signed = builder.sign(self._key, hashes.SHA256())
        certificate, secret = self.folder / f"{name}.cert", self.folder / f"{name}.key"
        certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        secret.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return certificate, secret


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def registry(authority: Authority) -> Iterator[RegistryServer]:
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    with running_registry(tls=authority.issue("registry", address)) as server:
        server.put_image("app", "v1", make_image([{"a": b"over tls"}]))
        yield server


def verified(folder: Path) -> RegistryConfig:
    """As if loopback were not insecure by default: what a registry elsewhere meets."""

    class Strict(RegistryConfig):
        def is_insecure(self, domain: str, addresses: object = ()) -> bool:
            return False

    return Strict(mirrors={}, certificate_folders=(folder,))


def test_an_unknown_authority_is_gos_sentence(
    registry: RegistryServer, images: FakeImages, tmp_path: Path
) -> None:
    with pytest.raises(EngineError) as caught:
        pull(images, f"{registry.host}/app:v1", config=verified(tmp_path))
    assert (
        "tls: failed to verify certificate: x509: certificate signed by unknown authority"
        in str(caught.value)
    )


def test_a_private_authority_of_certs_d_is_trusted(
    registry: RegistryServer, images: FakeImages, tmp_path: Path, authority: Authority
) -> None:
    folder = tmp_path / registry.host
    folder.mkdir()
    (folder / "ca.crt").write_bytes(authority.certificate.read_bytes())
    pull(images, f"{registry.host}/app:v1", config=verified(tmp_path))
    assert images.images


def test_it_is_trusted_for_its_own_registry_only(
    registry: RegistryServer, images: FakeImages, tmp_path: Path, authority: Authority
) -> None:
    folder = tmp_path / "other:5000"
    folder.mkdir()
    (folder / "ca.crt").write_bytes(authority.certificate.read_bytes())
    with pytest.raises(EngineError, match="x509"):
        pull(images, f"{registry.host}/app:v1", config=verified(tmp_path))


def test_an_insecure_registry_is_not_verified(registry: RegistryServer, images: FakeImages) -> None:
    pull(images, f"{registry.host}/app:v1", config=build_registry_config())
    assert images.images


def test_a_wrong_name_is_refused(images: FakeImages, tmp_path: Path, authority: Authority) -> None:
    with running_registry(tls=authority.issue("wrong", x509.DNSName("elsewhere"))) as server:
        folder = tmp_path / server.host
        folder.mkdir()
        (folder / "ca.crt").write_bytes(authority.certificate.read_bytes())
        with pytest.raises(EngineError, match=r"x509: certificate is not valid for 127\.0\.0\.1"):
            pull(images, f"{server.host}/app:v1", config=verified(tmp_path))


def test_plain_http_where_tls_is_due_is_gos_sentence(images: FakeImages, tmp_path: Path) -> None:
    with running_registry() as server:
        with pytest.raises(EngineError, match="http: server gave HTTP response to HTTPS client"):
            pull(images, f"{server.host}/app:v1", config=verified(tmp_path))


def test_a_client_certificate_is_shown(
    images: FakeImages, tmp_path: Path, authority: Authority
) -> None:
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    server = RegistryServer(tls=authority.issue("mutual", address))
    server.client_ca = authority.certificate
    try:
        server.start()
        server.client_certificate = authority.issue("client", x509.DNSName("client"))
        server.put_image("app", "v1", make_image([{"a": b"mutual"}]))
        folder = tmp_path / server.host
        folder.mkdir()
        (folder / "ca.crt").write_bytes(authority.certificate.read_bytes())
        with pytest.raises(EngineError):
            pull(images, f"{server.host}/app:v1", config=verified(tmp_path))
        for kind, source in zip(("cert", "key"), server.client_certificate, strict=True):
            (folder / f"client.{kind}").write_bytes(source.read_bytes())
        pull(images, f"{server.host}/app:v1", config=verified(tmp_path))
        assert images.images
    finally:
        server.close()
