"""One WebSocket connection on picows: bounded queue, own watchdog, and an end that always has a reason.

Reconnecting, subscribing and resyncing are the business of whoever holds it (market.services). picows and
msgspec cost a quarter of the CPU of websockets and orjson (reference/perf.md).
"""

import asyncio
import contextlib
import random
from dataclasses import dataclass
from typing import Any

import msgspec
from picows import WSError, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from tradingbot.core.clock import monotonic_seconds

CONNECT_TIMEOUT_SECONDS = 10.0
FRAME_BYTES_MAX = 2 * 1024 * 1024
QUEUE_FRAMES_MAX = 100_000
QUEUE_BYTES_MAX = 32 * 1024 * 1024
PING_AFTER_SECONDS = 4.0
WATCH_SECONDS = 1.0
LIFETIME_SECONDS = 23 * 3600  # the exchange closes at 24 h: go before, at a time of our own
LIFETIME_JITTER_SECONDS = 900
HAND_OVER_SECONDS = 600  # for a successor to be found, after the lifetime
BACKOFF_FIRST_SECONDS = 0.5
BACKOFF_MAX_SECONDS = 30.0


class SocketEnded(Exception):
    """The connection is over; `at_once` when the next one need not wait (planned, server shutdown)."""

    def __init__(self, reason: str, *, at_once: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.at_once = at_once


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds of silence before a connection is given up: no frame at all, and no message in particular."""

    frame_seconds: float = 12.0
    message_seconds: float = 30.0


class StreamSocket(WSListener):
    """An open connection; create it with `connect`. Frames pile up in a bounded queue until `receive`."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._transport: WSTransport | None = None
        self._frames: list[bytes] = []
        self._queued_bytes = 0
        self._fragments: list[bytes] = []
        self._arrived = asyncio.Event()
        self._ended: SocketEnded | None = None
        self._frame_at = self._message_at = self._opened_at = monotonic_seconds()
        self._frames_seen = self._messages_seen = 0
        self._watchdog: asyncio.Task[None] | None = None
        self._retired: str | None = None
        self._retiring = asyncio.Event()

    # --- for the holder ---
    async def receive(self) -> list[bytes]:
        """All messages that have come since the last call, at least one; raises SocketEnded after the last."""
        while not self._frames:
            if self._ended is not None:
                raise self._ended
            self._arrived.clear()
            await self._arrived.wait()
        frames, self._frames, self._queued_bytes = self._frames, [], 0
        return frames

    async def has_frames(self) -> None:
        """Wait until there is something to receive (or the end)."""
        while not self._frames and self._ended is None:
            self._arrived.clear()
            await self._arrived.wait()

    def retire(self, reason: str) -> None:
        """This connection still works and will not for long: a successor should take its place."""
        self._retired = self._retired or reason
        self._retiring.set()

    async def retired(self) -> str:
        """Wait until a successor is wanted; why."""
        await self._retiring.wait()
        return self._retired or ""

    def send(self, content: dict[str, Any]) -> None:
        """Send one JSON message; silently nothing on a dead connection, which `receive` reports."""
        if self._transport is not None and self._ended is None:
            self._transport.send(WSMsgType.TEXT, msgspec.json.encode(content))

    async def close(self) -> None:
        """Close and forget; safe to call twice. What has come can still be received."""
        self._end("closed by us")
        if self._watchdog is not None:
            self._watchdog.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watchdog

    # --- called by picows ---
    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        self._frame_at = self._message_at = self._opened_at = monotonic_seconds()
        self._watchdog = asyncio.get_running_loop().create_task(self._watch())

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if self._ended is not None:
            return  # the rest of the read buffer: nothing after the end counts
        self._frames_seen += 1  # the watchdog looks at the clock, once a second and not once a frame
        kind = frame.msg_type
        if kind is WSMsgType.TEXT and frame.fin and not self._fragments:
            self._on_message(frame.get_payload_as_bytes())
        elif kind is WSMsgType.TEXT or kind is WSMsgType.CONTINUATION:
            self._on_part(frame)
        elif kind is WSMsgType.PING:
            transport.send_pong(frame.get_payload_as_bytes())
        elif kind is WSMsgType.CLOSE:
            code = frame.get_close_code()
            self._end(f"closed by the exchange with code {getattr(code, 'value', code)}")

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._end("the connection broke without a close frame")

    def _on_message(self, payload: bytes) -> None:
        self._messages_seen += 1
        self._frames.append(payload)
        self._queued_bytes += len(payload)
        if len(self._frames) > QUEUE_FRAMES_MAX or self._queued_bytes > QUEUE_BYTES_MAX:
            self._end("the queue is full: what follows is fetched again after reconnecting")
        elif len(self._frames) == 1:
            self._arrived.set()

    def _on_part(self, frame: WSFrame) -> None:
        """Joins the parts of a fragmented message; their sum is bounded like a single frame."""
        self._messages_seen += 1
        self._fragments.append(frame.get_payload_as_bytes())
        if sum(map(len, self._fragments)) > FRAME_BYTES_MAX:
            self._end("a fragmented message grew too large")
        elif frame.fin:
            payload, self._fragments = b"".join(self._fragments), []
            self._on_message(payload)

    # --- within ---
    async def _watch(self) -> None:
        lifetime = LIFETIME_SECONDS - random.uniform(0, LIFETIME_JITTER_SECONDS)  # noqa: S311 - not a secret
        frames, messages = 0, 0
        while self._ended is None:
            await asyncio.sleep(WATCH_SECONDS)
            now = monotonic_seconds()
            if self._frames_seen != frames:
                frames, self._frame_at = self._frames_seen, now
            if self._messages_seen != messages:
                messages, self._message_at = self._messages_seen, now
            if now - self._frame_at > self._patience.frame_seconds:
                self._end(f"half-open: no frame for {self._patience.frame_seconds:.0f} s")
            elif now - self._message_at > self._patience.message_seconds:
                self._end(f"no message for {self._patience.message_seconds:.0f} s")
            elif now - self._opened_at > lifetime + HAND_OVER_SECONDS:
                self._end("before the exchange's 24 h, and no successor was found", at_once=True)
            elif now - self._opened_at > lifetime:
                self.retire("planned, before the exchange's 24 h")
            if now - self._frame_at > PING_AFTER_SECONDS and self._transport is not None:
                self._transport.send_ping(b"")

    def _end(self, reason: str, *, at_once: bool = False) -> None:
        """The first reason counts; frames received before it can still be taken."""
        if self._ended is None:
            self._ended = SocketEnded(reason, at_once=at_once)
            self._arrived.set()
            if self._transport is not None:
                self._transport.disconnect(graceful=False)


async def connect(url: str, patience: Patience) -> StreamSocket:
    """Open a connection; raises SocketEnded with the reason when that fails."""
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
            _, listener = await ws_connect(
                lambda: StreamSocket(patience),
                url,
                enable_auto_pong=False,  # the watchdog wants to see the exchange's pings as signs of life
                max_frame_size=FRAME_BYTES_MAX,
                websocket_handshake_timeout=CONNECT_TIMEOUT_SECONDS,
                max_redirects=0,
            )
    except (OSError, TimeoutError, WSError) as error:
        raise SocketEnded(f"could not connect to {url} ({type(error).__name__})") from error
    return listener  # type: ignore[return-value]


class Backoff:
    """Endless jittered back-off: half a second doubling to thirty, from the start again after a success."""

    def __init__(self) -> None:
        self._ceiling = BACKOFF_FIRST_SECONDS

    def succeeded(self) -> None:
        """The last connection did its work: the next wait is short again."""
        self._ceiling = BACKOFF_FIRST_SECONDS

    def next_seconds(self) -> float:
        """How long to wait before the next attempt."""
        seconds = random.uniform(self._ceiling / 2, self._ceiling)  # noqa: S311 - not a secret
        self._ceiling = min(self._ceiling * 2, BACKOFF_MAX_SECONDS)
        return seconds
