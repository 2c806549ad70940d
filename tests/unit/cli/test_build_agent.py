"""The agent of `wherry build --ssh id=key`: what it answers, and the keys that it cannot read."""

from __future__ import annotations

import os
import socket
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

from wherry.cli.command import ValueRefused
from wherry.cli.image.build import open_agents
from wherry.cli.image.build_agent import KeyAgent

PLAIN = serialization.NoEncryption()
OPENSSH = serialization.PrivateFormat.OpenSSH
PEM = serialization.PrivateFormat.PKCS8
Key = ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Key]:
    """A key of each kind, in files of their names."""
    folder = tmp_path_factory.mktemp("keys")
    made: dict[str, Key] = {
        str(folder / "ed25519"): ed25519.Ed25519PrivateKey.generate(),
        str(folder / "rsa"): rsa.generate_private_key(65537, 2048),
        str(folder / "ecdsa"): ec.generate_private_key(ec.SECP384R1()),
    }
    for (path, key), form in zip(made.items(), (OPENSSH, PEM, OPENSSH), strict=True):
        Path(path).write_bytes(key.private_bytes(serialization.Encoding.PEM, form, PLAIN))
    return made


@pytest.fixture
def agent(keys: dict[str, Key]) -> Iterator[KeyAgent]:
    made = KeyAgent(list(keys))
    yield made
    made.close()
    assert not os.path.exists(os.path.dirname(made.path))


def ask(agent: KeyAgent, message: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(agent.path)
        with connection.makefile("rwb") as stream:
            stream.write(struct.pack(">I", len(message)) + message)
            stream.flush()
            (length,) = struct.unpack(">I", stream.read(4))
            return stream.read(length)


def strings(data: bytes) -> list[bytes]:
    found = []
    while data:
        (length,) = struct.unpack(">I", data[:4])
        found.append(data[4 : 4 + length])
        data = data[4 + length :]
    return found


def string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def test_keys_are_listed_and_sign(agent: KeyAgent, keys: dict[str, Key]) -> None:
    listed = ask(agent, b"\x0b")
    assert listed[:5] == b"\x0c\0\0\0\x03"
    publics = dict(zip(strings(listed[5:])[1::2], strings(listed[5:])[::2], strict=True))
    for path, key in keys.items():
        public = publics[path.encode()]
        for flags, name in ((0, b"ssh-rsa"), (2, b"rsa-sha2-256"), (4, b"rsa-sha2-512")):
            request = b"\x0d" + string(public) + string(b"data") + struct.pack(">I", flags)
            answer = ask(agent, request)
            assert answer[0] == 14
            found, signature = strings(strings(answer[1:])[0])
            if isinstance(key, rsa.RSAPrivateKey):
                assert found == name
                algorithm = {0: hashes.SHA1(), 2: hashes.SHA256(), 4: hashes.SHA512()}[flags]
                key.public_key().verify(signature, b"data", padding.PKCS1v15(), algorithm)
            elif isinstance(key, ec.EllipticCurvePrivateKey):
                assert found == b"ecdsa-sha2-nistp384"
                r, s = (int.from_bytes(part, "big") for part in strings(signature))
                encoded = utils.encode_dss_signature(r, s)
                key.public_key().verify(encoded, b"data", ec.ECDSA(hashes.SHA384()))
            else:
                assert found == b"ssh-ed25519"
                key.public_key().verify(signature, b"data")


@pytest.mark.parametrize(
    "message", [b"", b"\x13", b"\x16" + string(b"x"), b"\x0d", b"\x0d\xff\xff\xff\xff", b"\x1b"]
)
def test_everything_else_fails(agent: KeyAgent, message: bytes) -> None:
    assert ask(agent, message) == b"\x05"


def test_an_agent_whose_path_is_too_long(
    keys: dict[str, Key], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with pytest.raises(ValueRefused, match="path too long; TMPDIR may name a folder"):
        KeyAgent(list(keys))
    assert not list(folder.iterdir())


def test_what_cannot_be_an_agent(keys: dict[str, Key], tmp_path: Path) -> None:
    one = next(iter(keys))
    secret = serialization.BestAvailableEncryption(b"secret")
    locked, junk = tmp_path / "locked", tmp_path / "junk"
    locked.write_bytes(keys[one].private_bytes(serialization.Encoding.PEM, PEM, secret))
    junk.write_text("junk")
    agent = KeyAgent([one])
    for text, sentence in (
        (f"default={locked}", "this private key is passphrase protected"),
        (f"default={junk}", "no private key found"),
        (f"default={tmp_path}", "is a directory"),
        (f"default={tmp_path}/none", "no such file or directory"),
        (f"default={one},{agent.path}", "invalid combination of keys and sockets"),
        (f"default={agent.path},{agent.path}", "only single socket allowed"),
    ):
        with pytest.raises(ValueRefused, match=sentence):
            open_agents([text], [])
    with pytest.raises(ValueRefused, match='duplicate agent ID "default"'):
        open_agents([f"default={agent.path}", f"={agent.path}"], [])
    assert open_agents([f"a={agent.path}"], []) == {"a": agent.path}
    agent.close()
