"""WebSocket connections with bounded queues: a reader that does not keep up is cut off, nobody waits for it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

from aiohttp import WSMsgType, web

from simulator.clock import monotonic_seconds, system_now_ms

QUEUE_MESSAGES_MAX = 5_000
PING_INTERVAL_SECONDS = 20.0
PONG_WAIT_SECONDS = 60.0
CLOSE_ANSWER_SECONDS = 1.0
MESSAGE_BYTES_MAX = 1 << 20
ABNORMAL_CLOSURE = 1006


class Connection:
    """One open socket. Sending only queues; a task of its own writes. `microseconds` is the unit of all times that
    are sent on it."""

    def __init__(
        self, socket: web.WebSocketResponse, request: web.Request, path: str, microseconds: bool
    ) -> None:
        self.socket = socket
        self.microseconds = microseconds
        self.path = path
        self.address = request.remote or ""
        self.opened_at = monotonic_seconds()
        self.connected_ms = system_now_ms()
        self.last_pong_at = self.opened_at
        self.last_ping_at = self.opened_at
        self.on_close: list[Callable[[], None]] = []
        self.on_control_frame: Callable[[], object] = lambda: None
        self._transport = request.transport
        self._queue: deque[tuple[WSMsgType, bytes]] = deque()
        self._wake = asyncio.Event()
        self._closing: tuple[int, str] | None = None
        self._silent_until = 0.0

    @property
    def closing(self) -> bool:
        """A close frame has been asked for."""
        return self._closing is not None

    def send(self, message: bytes) -> None:
        self._enqueue(WSMsgType.TEXT, message)

    def pong(self, payload: bytes) -> None:
        self._enqueue(WSMsgType.PONG, payload)

    def ping(self, payload: bytes) -> None:
        self.last_ping_at = monotonic_seconds()
        self._enqueue(WSMsgType.PING, payload)

    def close_soon(self, code: int, reason: str) -> None:
        """Ask the writer to send a close frame; what is queued is dropped. 1006 is a cut without a frame."""
        if code == ABNORMAL_CLOSURE:
            self.abort()
            return
        self._closing = self._closing or (code, reason)
        self._queue.clear()
        self._wake.set()

    @property
    def silent(self) -> bool:
        """Half open: nothing is sent and nothing heard."""
        return monotonic_seconds() < self._silent_until

    def fall_silent(self, seconds: float) -> None:
        """Send nothing more for a while, not even pings, and stay open; what was to be sent is lost."""
        self._silent_until = monotonic_seconds() + seconds

    def abort(self) -> None:
        """Cut the connection without a word."""
        if self._transport is not None:
            self._transport.abort()

    async def write_forever(self) -> None:
        """Send what is queued, until the connection is closed."""
        try:
            while self._closing is None:
                await self._wake.wait()
                self._wake.clear()
                while self._queue and self._closing is None:
                    kind, message = self._queue.popleft()
                    await self.socket.send_frame(message, kind)
            code, reason = self._closing
            # Not socket.close(): that one closes the transport at once, and what the peer still sends then
            # resets the connection and may take the close frame with it.
            await self.socket.send_frame(code.to_bytes(2, "big") + reason.encode(), WSMsgType.CLOSE)
            await asyncio.sleep(CLOSE_ANSWER_SECONDS)
            self.abort()
        except (ConnectionError, RuntimeError):
            # The peer went away while we wrote; the reading side ends the connection.
            self.abort()

    def _enqueue(self, kind: WSMsgType, message: bytes) -> None:
        if self._closing is not None or self.silent:
            return
        if len(self._queue) >= QUEUE_MESSAGES_MAX:
            self._queue.clear()
            self.abort()
            return
        self._queue.append((kind, message))
        self._wake.set()


class Connections:
    """All open sockets of a server; each lives `lifetime_seconds` at most."""

    def __init__(self, lifetime_seconds: float) -> None:
        self._lifetime_seconds = lifetime_seconds
        self._open: set[Connection] = set()

    def __len__(self) -> int:
        return len(self._open)

    def under(self, path: str) -> Iterable[Connection]:
        """Connections whose path begins with `path`."""
        return [connection for connection in self._open if connection.path.startswith(path)]

    def admit(self, connection: Connection) -> None:
        """Count a connection as open; one that is served here, or that a rehearsal steps through time."""
        self._open.add(connection)

    def dismiss(self, connection: Connection) -> None:
        """It is over: tell who wanted to know."""
        self._open.discard(connection)
        for callback in connection.on_close:
            callback()

    async def serve(
        self,
        request: web.Request,
        path: str,
        on_text: Callable[[Connection, str], None],
        on_open: Callable[[Connection], None] | None = None,
        microseconds: bool = False,
    ) -> web.WebSocketResponse:
        """Run one connection until either side ends it. `on_text` must not block."""
        socket = web.WebSocketResponse(
            autoping=False, compress=False, max_msg_size=MESSAGE_BYTES_MAX, timeout=1.0
        )
        await socket.prepare(request)
        connection = Connection(socket, request, path, microseconds)
        self.admit(connection)
        writer = asyncio.create_task(connection.write_forever())
        try:
            if on_open is not None:
                on_open(connection)
            async for message in socket:
                self._receive(connection, message.type, message.data, on_text)
        finally:
            writer.cancel()
            self.dismiss(connection)
        return socket

    def _receive(
        self,
        connection: Connection,
        kind: WSMsgType,
        data: str | bytes,
        on_text: Callable[[Connection, str], None],
    ) -> None:
        if connection.silent:
            return
        if kind in (WSMsgType.PING, WSMsgType.PONG):
            connection.on_control_frame()
        if kind is WSMsgType.PING:
            connection.pong(bytes(data) if isinstance(data, bytes | bytearray) else b"")
        elif kind is WSMsgType.PONG:
            connection.last_pong_at = monotonic_seconds()
        elif kind is WSMsgType.TEXT and isinstance(data, str) and not connection.closing:
            on_text(connection, data)
        elif kind is WSMsgType.BINARY:
            connection.close_soon(1003, "text frames only")

    async def ping_forever(self) -> None:
        """Ping each connection every 20 s, drop those that have not answered for 60 s, close the old ones."""
        while True:
            await asyncio.sleep(1.0)
            now = monotonic_seconds()
            for connection in list(self._open):
                if now - connection.opened_at >= self._lifetime_seconds:
                    connection.close_soon(1001, "connection is too old")
                    continue
                if now - connection.last_ping_at >= PING_INTERVAL_SECONDS:
                    if now - max(connection.last_pong_at, connection.opened_at) >= PONG_WAIT_SECONDS:
                        connection.abort()
                        continue
                    connection.ping(str(int(now * 1000)).encode())

    async def close_all(self, code: int, reason: str, patience_seconds: float) -> None:
        """Close every connection; those that do not answer in time are cut."""
        for connection in list(self._open):
            connection.close_soon(code, reason)
        deadline = monotonic_seconds() + patience_seconds
        while self._open and monotonic_seconds() < deadline:
            await asyncio.sleep(0.02)
        for connection in list(self._open):
            connection.abort()
