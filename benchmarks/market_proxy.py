"""A wire that breaks on command: between the stream worker and the simulator, frame by frame."""

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

HEAD_BYTES_MAX = 65536
FLOOD_FRAMES = 25_000  # more than the client's queue holds
GARBAGE: tuple[bytes, ...] = (
    b"",
    b"nonsense",
    b"[1,2,3]",
    b"\xff\xfe\x00",
    b'{"stream":"btcusdt@kline_1m","data":{"k":{"t":1',
    b'{"stream":"btcusdt@unheardOf","data":{"e":"unheardOf","x":[1,{"y":null}]}}',
    b'{"stream":"btcusdt@bookTicker","data":{"u":1,"s":"BTCUSDT","b":"NaN","B":"1","a":"-1","A":"0"}}',
    b'{"stream":"btcusdt@bookTicker","data":{"u":1,"s":"BTCUSDT","b":"0","B":"1","a":"0","A":"1"}}',
    b'{"stream":"btcusdt@bookTicker","data":{"u":1,"s":"ETHUSDT","b":"1","B":"1","a":"2","A":"1"}}',
    b"[" * 5000,
    json.dumps({"stream": "btcusdt@bookTicker", "data": "x" * 200_000}).encode(),
)


def text_frame(payload: bytes) -> bytes:
    """A WebSocket text frame as a server sends it, unmasked."""
    size = len(payload)
    if size < 126:
        return bytes((0x81, size)) + payload
    if size < 65536:
        return bytes((0x81, 126)) + size.to_bytes(2, "big") + payload
    return bytes((0x81, 127)) + size.to_bytes(8, "big") + payload


class FaultyWire:
    """Forwards TCP to `target_port`; on market sockets the next frame meets the armed fault."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._armed: tuple[str, float] | None = None
        self._fired = threading.Event()
        self._held: bytes | None = None
        self._swallow = 0
        self._ready = threading.Event()
        self._pipes: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        if not self._ready.wait(10):
            raise OSError("the wire did not start")

    def arm(self, kind: str, seconds: float = 0.0) -> None:
        """The next frame of a market socket meets this fault."""
        self._fired.clear()
        self._armed = (kind, seconds)

    def wait_fired(self, seconds: float) -> bool:
        """Whether the fault has met a frame."""
        return self._fired.wait(seconds)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in list(self._pipes):
            task.cancel()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            writer.transport.abort()
            return
        first = await reader.read(HEAD_BYTES_MAX)
        upstream[1].write(first)
        back = self._market_frames if first.startswith(b"GET /stream") else self._raw
        await self._both(self._raw(reader, upstream[1]), back(upstream[0], writer), writer, upstream[1])

    async def _both(
        self,
        one: Coroutine[Any, Any, None],
        other: Coroutine[Any, Any, None],
        *writers: asyncio.StreamWriter,
    ) -> None:
        tasks = {asyncio.ensure_future(one), asyncio.ensure_future(other)}
        self._pipes |= tasks
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._pipes -= tasks
            for writer in writers:
                writer.transport.abort()

    async def _raw(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()

    async def _market_frames(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._held, self._swallow = None, 0
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            writer.write(await reader.readuntil(b"\r\n\r\n"))
            while True:
                frame = await _frame(reader)
                armed, self._armed = self._armed, None
                go_on = True
                if armed is not None:
                    self._fired.set()
                    go_on = await self._misbehave(*armed, frame, writer)
                else:
                    self._forward(frame, writer)
                if not go_on:
                    return
                await writer.drain()

    def _forward(self, frame: bytes, writer: asyncio.StreamWriter) -> None:
        if self._swallow and b'"x":true' in frame:
            self._swallow -= 1
            return
        writer.write(frame)
        if self._held is not None:
            held, self._held = self._held, None
            writer.write(held)

    async def _misbehave(self, kind: str, seconds: float, frame: bytes, writer: asyncio.StreamWriter) -> bool:
        """Act the fault out; False ends the connection."""
        if kind == "truncate":
            writer.write(frame[: max(1, len(frame) // 2)])
            await writer.drain()
            return False
        if kind == "cut":
            return False
        if kind == "close":
            writer.write(b"\x88\x02\x03\xf0")  # 1008
            await writer.drain()
            return False
        if kind in ("stall", "half-open"):
            await asyncio.sleep(seconds)
            self._forward(frame, writer)
            return True
        simple: dict[str, Callable[[], None]] = {
            "garbage": lambda: writer.writelines(text_frame(payload) for payload in GARBAGE),
            "flood": lambda: writer.write(frame * FLOOD_FRAMES),
            "duplicate": lambda: writer.write(frame * 3),
            "shutdown": lambda: writer.write(text_frame(b'{"e":"serverShutdown","E":1}')),
        }
        if kind == "reorder":
            self._held = frame
        elif kind == "lose closes":
            self._swallow = 3
            self._forward(frame, writer)
        else:
            simple[kind]()
            self._forward(frame, writer)
        return True


async def _frame(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(2)
    size = head[1] & 0x7F
    if size == 126:
        more = await reader.readexactly(2)
    elif size == 127:
        more = await reader.readexactly(8)
    else:
        return head + await reader.readexactly(size)
    return head + more + await reader.readexactly(int.from_bytes(more, "big"))
