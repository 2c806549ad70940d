"""TLS over a plain transport by `ssl.MemoryBIO`, with half-close and back-pressure in both directions (pitfall 19).

asyncio's own TLS closes both ways when the peer says close_notify, which loses the output of `run -i` with a piped
stdin. Here close_notify of the peer is its end of file only. A hijack gives the engine one end of a socket pair,
and this module relays between the pair and the encrypted connection until both ways have ended.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Protocol, cast

logger = logging.getLogger(__name__)

_HANDSHAKE_TIMEOUT_S = 60.0
_READ_SIZE = 256 << 10


class Inner(Protocol):
    """What speaks inside of TLS."""

    def open(self, transport: TlsTransport) -> None: ...
    def data_received(self, data: bytes) -> None: ...
    def eof_received(self) -> bool: ...
    def connection_lost(self, exc: Exception | None) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


class TlsProtocol(asyncio.Protocol):
    """The outer protocol: encrypted bytes in, plain bytes to `inner`."""

    def __init__(self, context: ssl.SSLContext, make_inner: Callable[[], Inner]) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._make_inner = make_inner
        self._inner: Inner | None = None
        self._raw: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._peer_ended = False
        self._sent_end = False
        self._paused = False

    # -- asyncio.Protocol ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: a client has connected."""
        self._raw = cast("asyncio.Transport", transport)
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(_HANDSHAKE_TIMEOUT_S, self._raw.abort)

    def data_received(self, data: bytes) -> None:
        """asyncio: encrypted bytes."""
        self._incoming.write(data)
        if self._inner is None and not self._shake_hands():
            return
        self._decrypt()

    def eof_received(self) -> bool:
        """asyncio: the peer's TCP half-close; with or without close_notify it means the same to us."""
        if self._inner is None:
            return False
        return self._end_of_peer()

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio: gone."""
        if self._timer is not None:
            self._timer.cancel()
        if self._inner is not None:
            self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """asyncio: the peer does not keep up."""
        if self._inner is not None:
            self._inner.pause_writing()

    def resume_writing(self) -> None:
        """asyncio: the peer has caught up."""
        if self._inner is not None:
            self._inner.resume_writing()

    # -- TLS -------------------------------------------------------------------------------------

    def _flush(self) -> None:
        if self._raw is not None and self._outgoing.pending:
            self._raw.write(self._outgoing.read())

    def _shake_hands(self) -> bool:
        assert self._raw is not None
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return False
        except ssl.SSLError as exc:
            logger.info("TLS handshake: %s", exc.reason)
            self._flush()  # the alert
            self._raw.close()
            return False
        self._flush()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._inner = self._make_inner()
        self._inner.open(TlsTransport(self, self._raw))
        return True

    def _decrypt(self) -> None:
        while self._inner is not None and not self._paused and not self._peer_ended:
            try:
                data = self._tls.read(_READ_SIZE)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                data = b""
            except ssl.SSLError as exc:
                logger.info("TLS read: %s", exc.reason)
                self.abort()
                break
            if not data:
                self._end_of_peer()
                break
            self._inner.data_received(data)
        self._flush()  # answers to key updates

    def _end_of_peer(self) -> bool:
        if self._peer_ended or self._inner is None:
            return True
        self._peer_ended = True
        keep = self._inner.eof_received()
        if not keep:
            self.close()
        return keep

    def encrypt(self, data: bytes) -> None:
        """Sends plain bytes."""
        if self._sent_end:
            return
        self._tls.write(data)
        self._flush()

    def send_end(self) -> None:
        """close_notify: no more comes from here; what the peer sends is still read."""
        if self._sent_end:
            return
        self._sent_end = True
        try:
            self._tls.unwrap()
        except (ssl.SSLError, ValueError):
            pass  # WANT_READ: the peer's own close_notify is not waited for
        self._flush()

    def pause_reading(self) -> None:
        """Passes no more plain bytes on."""
        self._paused = True
        if self._raw is not None and not self._raw.is_closing():
            self._raw.pause_reading()

    def resume_reading(self) -> None:
        """Goes on; what is decrypted already comes first."""
        self._paused = False
        if self._raw is not None and not self._raw.is_closing():
            self._raw.resume_reading()
        asyncio.get_running_loop().call_soon(self._decrypt)

    def close(self) -> None:
        """Says the end, then closes once everything is written."""
        self.send_end()
        if self._raw is not None:
            self._raw.close()

    def abort(self) -> None:
        """Drops the connection."""
        if self._raw is not None:
            self._raw.abort()

    async def relay(self) -> int:
        """From now on plain bytes go to a socket pair; returns its other end."""
        ours, theirs = socket.socketpair()
        ours.settimeout(0)
        relay = _Relay(self, peer_ended=self._peer_ended)
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(lambda: _PairSide(self, relay), ours)
        self._inner = relay
        self.resume_reading()
        return theirs.detach()


class TlsTransport:
    """What an HTTP connection sees of TLS."""

    def __init__(self, protocol: TlsProtocol, raw: asyncio.Transport) -> None:
        self._protocol = protocol
        self.write = protocol.encrypt
        self.close = protocol.close
        self.abort = protocol.abort
        self.write_eof = protocol.send_end
        self.pause_reading = protocol.pause_reading
        self.resume_reading = protocol.resume_reading
        self.is_closing = raw.is_closing
        self.set_write_buffer_limits = raw.set_write_buffer_limits

    def dup(self) -> int | None:
        """None: the bytes of the descriptor are encrypted."""
        return None

    async def detach(self) -> int:
        """One end of a relayed socket pair."""
        return await self._protocol.relay()


class _Relay:
    """Between the TLS connection and our end of the pair. Either way ends alone; both ended closes both."""

    def __init__(self, tls: TlsProtocol, *, peer_ended: bool) -> None:
        self.pair: asyncio.Transport | None = None
        self._tls = tls
        self._peer_ended = peer_ended
        self._pair_ended = False

    def open(self, transport: TlsTransport) -> None:
        """Nothing to do: a relay takes over a connection that is open."""

    def pair_made(self, pair: asyncio.Transport) -> None:
        """The pair is connected to the loop."""
        self.pair = pair
        if self._peer_ended:
            pair.write_eof()

    def pair_ended(self) -> None:
        """The container's output has ended."""
        self._pair_ended = True
        self._tls.send_end()
        self._close_when_done()

    def pair_lost(self) -> None:
        """The container's side is gone: nobody reads what the client sends."""
        self.pair = None
        self._tls.close()

    def data_received(self, data: bytes) -> None:
        """The client's input."""
        if self.pair is not None:
            self.pair.write(data)

    def eof_received(self) -> bool:
        """The client's input has ended; the output goes on."""
        self._peer_ended = True
        if self.pair is not None and not self.pair.is_closing():
            self.pair.write_eof()
        self._close_when_done()
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """The client is gone."""
        if self.pair is not None:
            self.pair.close()

    def pause_writing(self) -> None:
        """The client does not read."""
        if self.pair is not None:
            self.pair.pause_reading()

    def resume_writing(self) -> None:
        """The client reads again."""
        if self.pair is not None and not self.pair.is_closing():
            self.pair.resume_reading()

    def _close_when_done(self) -> None:
        if self._peer_ended and self._pair_ended:
            self._tls.close()
            if self.pair is not None:
                self.pair.close()


class _PairSide(asyncio.Protocol):
    """The pair's end of a relay."""

    def __init__(self, tls: TlsProtocol, relay: _Relay) -> None:
        self._tls = tls
        self._relay = relay

    def data_received(self, data: bytes) -> None:
        """asyncio: the container's output."""
        self._tls.encrypt(data)

    def pause_writing(self) -> None:
        """asyncio: the container does not read its input."""
        self._tls.pause_reading()

    def resume_writing(self) -> None:
        """asyncio: it does again."""
        self._tls.resume_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """asyncio: connected."""
        self._relay.pair_made(cast("asyncio.Transport", transport))

    def eof_received(self) -> bool:
        """asyncio: the container's end of output."""
        self._relay.pair_ended()
        return True

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """asyncio: the pair is gone."""
        self._relay.pair_lost()
