"""The wires between the bot's processes and the exchange: TCP that is cut, stalled or halved on command.

Each part of the bot has a port of its own, so that an order on a wire names the process that sent it.
"""

import asyncio
import re
import threading
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import Any

HOST = "127.0.0.1"
CHUNK_BYTES_MAX = 65536
ORDER = b"POST /api/v3/order"  # order lists begin so, too
CONTENT_LENGTH = re.compile(rb"(?i)\r\ncontent-length: (\d+)")
START_SECONDS_MAX = 10
HOLD_SECONDS_MAX = 3


class Deed(StrEnum):
    """What happens to the bytes."""

    CUT = "cut"
    """The connection ends at once; what was on its way is gone."""
    STALL = "stall"
    """The bytes wait for some seconds, then go on."""
    HALVE = "halve"
    """Half of the bytes arrive, then the connection ends."""
    HOLD = "hold"
    """The bytes wait until whoever armed it says so: a process is being killed meanwhile."""


class Moment(StrEnum):
    """Where an order is when it happens."""

    REQUEST = "request"
    """The request has left the bot and has not reached the exchange."""
    SENT = "sent"
    """The request has just been passed on to the exchange."""
    ANSWER = "answer"
    """The exchange has answered; the answer has not reached the bot."""


@dataclass
class Ambush:
    """What the next order of a part will meet, and when. `met` is set when it has, `over` ends a hold."""

    moment: Moment
    deed: Deed
    seconds: float = 0.0
    passes_on: bool = True  # whether held bytes still arrive
    met: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)


@dataclass(eq=False)
class _Link:
    """One connection of a part."""

    part: str
    writers: tuple[asyncio.StreamWriter, asyncio.StreamWriter]
    has_order: bool = False
    next_deed: tuple[Deed, float] | None = None

    def abort(self) -> None:
        for writer in self.writers:
            writer.transport.abort()


class Wires:
    """Forwards TCP to `target_port`, on a port for each of `parts`; works in a thread of its own."""

    def __init__(self, target_port: int, parts: Sequence[str]) -> None:
        self._target_port, self._parts = target_port, tuple(parts)
        self._ambushes: dict[str, Ambush] = {}
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready = threading.Event()
        self.ports: dict[str, int] = {}
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        if not self._ready.wait(START_SECONDS_MAX):
            raise OSError("the wires did not start")

    # --- from outside -----------------------------------------------------------------------------------

    def lay(self, part: str, ambush: Ambush) -> None:
        """The next order of `part` meets `ambush`, instead of one that was laid before."""
        self._ambushes[part] = ambush

    def lift(self, part: str) -> None:
        """Nothing waits for the next order of `part` any more."""
        self._ambushes.pop(part, None)

    def strike(self, deed: Deed, seconds: float, dice: Random) -> str | None:
        """Break one of the open connections, whatever it carries; the part it belongs to, if there is one."""
        by_part: dict[str, list[_Link]] = {}
        for link in list(self._links):
            by_part.setdefault(link.part, []).append(link)
        if not by_part:
            return None
        link = dice.choice(by_part[dice.choice(sorted(by_part))])
        if deed is Deed.CUT:
            self._loop.call_soon_threadsafe(link.abort)
        else:
            link.next_deed = (deed, seconds)
        return link.part

    def calm(self) -> None:
        """From now on the wires only forward."""
        for ambush in self._ambushes.values():
            ambush.over.set()
        self._ambushes.clear()
        for link in list(self._links):
            link.next_deed = None

    def stop(self) -> None:
        """Close every connection and port."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(START_SECONDS_MAX)

    # --- in the loop ------------------------------------------------------------------------------------

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        servers = []
        for part in self._parts:
            server = await asyncio.start_server(self._answerer(part), HOST, 0)
            self.ports[part] = int(server.sockets[0].getsockname()[1])
            servers.append(server)
        self._ready.set()
        await self._stop.wait()
        for server in servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _answerer(self, part: str) -> Any:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                there, back = await asyncio.open_connection(HOST, self._target_port)
            except OSError:
                writer.transport.abort()
                return
            link = _Link(part, (writer, back))
            self._links.add(link)
            try:
                await self._both(self._requests(link, reader, back), self._answers(link, there, writer))
            finally:
                self._links.discard(link)
                link.abort()

        return answer

    async def _both(self, *pumps: Coroutine[Any, Any, None]) -> None:
        tasks = {asyncio.ensure_future(pump) for pump in pumps}
        self._tasks |= tasks
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._tasks -= tasks

    async def _requests(
        self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while data := await reader.read(CHUNK_BYTES_MAX):
                link.has_order = data.startswith(ORDER)
                if link.has_order:
                    data += await _rest_of_request(data, reader)
                    if not await self._spring(link, Moment.REQUEST, data, writer):
                        return
                if not await self._pass(link, data, writer):
                    return
                if link.has_order and not await self._spring(link, Moment.SENT, b"", writer):
                    return

    async def _answers(self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(CHUNK_BYTES_MAX):
                if link.has_order and not await self._spring(link, Moment.ANSWER, data, writer):
                    return
                if not await self._pass(link, data, writer):
                    return

    async def _spring(self, link: _Link, moment: Moment, data: bytes, writer: asyncio.StreamWriter) -> bool:
        """Do to an order what waits for it here; False ends the connection."""
        ambush = self._ambushes.get(link.part)
        if ambush is None or ambush.moment is not moment:
            return True
        self.lift(link.part)
        ambush.met.set()
        if ambush.deed is Deed.HOLD:
            await asyncio.to_thread(ambush.over.wait, HOLD_SECONDS_MAX)
            return ambush.passes_on
        return await self._do(ambush.deed, ambush.seconds, data, writer)

    async def _pass(self, link: _Link, data: bytes, writer: asyncio.StreamWriter) -> bool:
        deed, link.next_deed = link.next_deed, None
        if deed is not None and not await self._do(*deed, data, writer):
            return False
        writer.write(data)
        await writer.drain()
        return True

    @staticmethod
    async def _do(deed: Deed, seconds: float, data: bytes, writer: asyncio.StreamWriter) -> bool:
        if deed is Deed.STALL:
            await asyncio.sleep(seconds)
            return True
        if deed is Deed.HALVE:
            writer.write(data[: len(data) // 2])
            await writer.drain()
        return False


async def _rest_of_request(data: bytes, reader: asyncio.StreamReader) -> bytes:
    """What is still missing of an HTTP request that begins with `data`."""
    rest = b""
    if b"\r\n\r\n" not in data:
        rest = await reader.readuntil(b"\r\n\r\n")
    head, _, body = (data + rest).partition(b"\r\n\r\n")
    length = CONTENT_LENGTH.search(head)
    missing = int(length[1]) - len(body) if length else 0
    return rest + (await reader.readexactly(missing) if missing > 0 else b"")
