"""A connection to a spawner or shim on the event loop: numbered requests, events, and the end.

Knows nothing of what the messages mean, but that an answer may carry an `error`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from wherry.lib.jsonvalue import JsonObject, get_int, get_object, get_str
from wherry.shim.protocol import Channel, Message, ProtocolError, close_all

logger = logging.getLogger(__name__)


class ShimLaunchError(Exception):
    """The program of a container or exec did not start: `step` of init on `object` failed with `errno`.

    `step` is "exec" when only the execution of the program itself failed. `errno` is 0 for failures that
    are none of the kernel's; `detail` is the low level's own words.
    """

    def __init__(self, step: str, object_name: str, errno: int, detail: str) -> None:
        super().__init__(detail)
        self.step = step
        self.object = object_name
        self.errno = errno
        self.detail = detail


class ShimGone(Exception):
    """The shim or the exec that was asked has ended meanwhile."""


class Peer:
    """A channel on the event loop: requests with numbered replies, events, and the end."""

    def __init__(self, channel: Channel) -> None:
        self._on_event: Callable[[Message], None] | None = None
        self._on_lost: Callable[[], None] | None = None
        self._channel = channel
        self._loop = asyncio.get_running_loop()
        self._waiting: dict[int, asyncio.Future[Message]] = {}
        self._last_number = 0
        self._early_events: list[Message] = []
        self._lost = False
        self._loop.add_reader(channel.fileno(), self._read)

    def subscribe(self, on_event: Callable[[Message], None], on_lost: Callable[[], None]) -> None:
        """Names who takes events and the end, and passes on what has come before."""
        self._on_event = on_event
        self._on_lost = on_lost
        events, self._early_events = self._early_events, []
        for message in events:
            on_event(message)
        if self._lost:
            on_lost()

    def unsubscribe(self) -> None:
        """What comes from here waits for the next `subscribe`."""
        self._on_event = None
        self._on_lost = None

    def send(self, body: dict[str, object], fds: list[int] | None = None) -> None:
        """Sends without waiting for an answer; to a peer that is gone it does nothing."""
        self._channel.send(body, fds)
        if self._channel.blocked:
            self._loop.add_writer(self._channel.fileno(), self._write)

    async def request(self, body: dict[str, object], fds: list[int] | None = None) -> Message:
        """Sends, and returns the answer. Raises ShimLaunchError (the peer's refusal) and ShimGone."""
        if self._lost or self._channel.closed:
            close_all(fds or [])
            raise ShimGone
        self._last_number = number = self._last_number + 1
        future: asyncio.Future[Message] = self._loop.create_future()
        self._waiting[number] = future
        self.send({"re": number, **body}, fds)
        try:
            return await future
        finally:
            self._waiting.pop(number, None)

    def close(self) -> None:
        """Closes the connection, without a call of `on_lost`. Idempotent."""
        if self._channel.fileno() < 0:
            return
        self._loop.remove_reader(self._channel.fileno())
        self._loop.remove_writer(self._channel.fileno())
        self._channel.close()
        self._fail_requests()

    async def end(self, patience_s: float) -> None:
        """Tells the peer that nothing more comes, waits for its end, and closes. Idempotent."""
        if self._lost:
            return
        ended: asyncio.Future[None] = self._loop.create_future()
        self._on_event = Message.close
        self._on_lost = lambda: None if ended.done() else ended.set_result(None)
        self._channel.shutdown()
        try:
            async with asyncio.timeout(patience_s):
                await ended
        except TimeoutError:
            logger.warning("a slot does not end")
        self.close()

    def _write(self) -> None:
        self._channel.flush()
        if not self._channel.blocked:
            self._loop.remove_writer(self._channel.fileno())

    def _read(self) -> None:
        while True:
            try:
                message = self._channel.receive()
            except ProtocolError as error:
                logger.warning("shim connection: %s", error)
                self._lose()
                return
            if message is None:
                break
            self._dispatch(message)
            if self._lost or self._channel.fileno() < 0:
                return
        if self._channel.closed:
            self._lose()

    def _dispatch(self, message: Message) -> None:
        body = message.body
        if "event" in body:
            if self._on_event is not None:
                self._on_event(message)
            else:
                self._early_events.append(message)
            return
        future = self._waiting.get(get_int(body, "re"))
        if future is None or future.done():
            message.close()
            return
        error = body.get("error")
        if error is None:
            future.set_result(message)
            return
        message.close()
        future.set_exception(_decode_error(get_object(body, "error")))

    def _lose(self) -> None:
        self._lost = True
        self.close()
        if self._on_lost is not None:
            self._on_lost()

    def _fail_requests(self) -> None:
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(ShimGone())


def _decode_error(error: JsonObject) -> Exception:
    step = get_str(error, "step")
    if step == "gone":
        return ShimGone(get_str(error, "detail"))
    return ShimLaunchError(
        step, get_str(error, "object"), get_int(error, "errno"), get_str(error, "detail")
    )
