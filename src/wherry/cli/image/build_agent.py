"""--ssh with private key files: an agent made of them, for as long as the build goes on.

It speaks what a client needs of the protocol of ssh-agent (draft-ietf-sshm-ssh-agent): the list of keys, and signatures. The keys
stay in this process; the engine sees the socket only.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import struct
import tempfile
import threading

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

from wherry.cli.command import ValueRefused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    Key = ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

_FAILURE = 5
_REQUEST_IDENTITIES, _IDENTITIES = 11, 12
_SIGN_REQUEST, _SIGN_RESPONSE = 13, 14
# By the flags of a sign request; the last is what an old host asks for.
_RSA_ALGORITHMS: tuple[tuple[int, bytes, type[hashes.HashAlgorithm]], ...] = (
    (4, b"rsa-sha2-512", hashes.SHA512),
    (2, b"rsa-sha2-256", hashes.SHA256),
    (0, b"ssh-rsa", hashes.SHA1),
)
_MAX_MESSAGE = 256 << 10
_MAX_KEY_FILE = 100 << 10
_CURVE_ALGORITHMS: dict[str, tuple[bytes, hashes.HashAlgorithm]] = {
    "secp256r1": (b"ecdsa-sha2-nistp256", hashes.SHA256()),
    "secp384r1": (b"ecdsa-sha2-nistp384", hashes.SHA384()),
    "secp521r1": (b"ecdsa-sha2-nistp521", hashes.SHA512()),
}


class KeyAgent:
    """Keys behind a socket that only this user (and root) can reach."""

    def __init__(self, paths: Sequence[str]) -> None:
        """Reads the keys. Raises ValueRefused."""
        self._keys = {_encode_public(key): (key, path) for path in paths for key in [_load(path)]}
        self._folder = tempfile.mkdtemp(prefix="wherry-ssh-")
        self.path = os.path.join(self._folder, "agent")
        self._listener = socket.socket(socket.AF_UNIX)
        try:
            self._listener.bind(self.path)
        except OSError as exc:  # an address holds 108 bytes
            self._listener.close()
            os.rmdir(self._folder)
            raise ValueRefused(
                f"failed to make an agent of the keys: {self.path}: {str(exc).lower()}; TMPDIR may name a folder"
                " with a shorter path"
            ) from exc
        self._listener.listen()
        self._serving: list[tuple[threading.Thread, socket.socket]] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def close(self) -> None:
        """Ends it and waits until all its connections have ended."""
        _shut(self._listener)
        self._accepting.join()
        self._listener.close()
        for thread, connection in self._serving:
            _shut(connection)
            thread.join()
            connection.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # closed
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._serving = [pair for pair in self._serving if pair[0].is_alive()]
            self._serving.append((thread, connection))
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection, connection.makefile("rwb") as stream:
            while len(head := stream.read(4)) == 4:
                (length,) = struct.unpack(">I", head)
                if length > _MAX_MESSAGE:
                    return
                message = stream.read(length)
                if len(message) < length:
                    return
                try:
                    answer = self.answer(message)
                except (ValueError, IndexError, struct.error):
                    answer = bytes((_FAILURE,))
                stream.write(_string(answer))
                stream.flush()

    def answer(self, message: bytes) -> bytes:
        """The answer to one message. Raises ValueError, IndexError, struct.error for one that is malformed."""
        if message[0] == _REQUEST_IDENTITIES:
            entries = [
                _string(public) + _string(os.fsencode(path))
                for public, (_, path) in self._keys.items()
            ]
            return struct.pack(">BI", _IDENTITIES, len(entries)) + b"".join(entries)
        if message[0] == _SIGN_REQUEST:
            public, rest = _take(message[1:])
            data, rest = _take(rest)
            (flags,) = struct.unpack(">I", rest[:4])
            found = self._keys.get(public)
            if found is not None:
                return bytes((_SIGN_RESPONSE,)) + _string(_sign(found[0], data, flags))
        return bytes((_FAILURE,))


def _shut(connection: socket.socket) -> None:
    """Wakes who waits in it."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _load(path: str) -> Key:
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_KEY_FILE)
    except OSError as exc:
        raise ValueRefused(f"failed to read {path}: {(exc.strerror or '').lower()}") from exc
    load = (
        serialization.load_ssh_private_key
        if b"BEGIN OPENSSH PRIVATE KEY" in data
        else serialization.load_pem_private_key
    )
    try:
        key = load(data, None)
    except TypeError as exc:
        raise ValueRefused(
            f"failed to parse {path}: this private key is passphrase protected: give it to an agent by ssh-add, and"
            " --ssh the agent"
        ) from exc
    except Exception as exc:  # ValueError, and what the backend has of its own
        raise ValueRefused(f"failed to parse {path}: no private key found") from exc
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _CURVE_ALGORITHMS:
        return key
    if isinstance(key, ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey):
        return key
    raise ValueRefused(f"failed to parse {path}: a kind of key that ssh has no name for")


def _encode_public(key: Key) -> bytes:
    import binascii

    text = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    return binascii.a2b_base64(text.split()[1])


def _sign(key: Key, data: bytes, flags: int) -> bytes:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return _string(b"ssh-ed25519") + _string(key.sign(data))
    if isinstance(key, rsa.RSAPrivateKey):
        name, make = next(
            (name, make) for flag, name, make in _RSA_ALGORITHMS if flags & flag == flag
        )
        return _string(name) + _string(key.sign(data, padding.PKCS1v15(), make()))
    name, algorithm = _CURVE_ALGORITHMS[key.curve.name]
    r, s = utils.decode_dss_signature(key.sign(data, ec.ECDSA(algorithm)))
    return _string(name) + _string(_number(r) + _number(s))


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _number(value: int) -> bytes:
    return _string(value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _take(data: bytes) -> tuple[bytes, bytes]:
    (length,) = struct.unpack(">I", data[:4])
    if length > len(data) - 4:
        raise ValueError("a string is longer than its message")
    return data[4 : 4 + length], data[4 + length :]
