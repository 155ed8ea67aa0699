"""Connect, serve, hand over, reconnect, without end: what both streams have in common."""

import asyncio
import logging
from abc import ABC, abstractmethod

from django.db import Error

from market.adapters.stream_client import Backoff, Patience, SocketEnded, StreamSocket, connect
from market.contracts import Fence, MarketError
from market.services.database_thread import DatabaseThread
from market.services.feed import Feed
from market.services.together import until_first_ends
from tradingbot.core.leases import LeaseLost
from tradingbot.env import SettingError

SUCCESSOR_ANSWER_SECONDS = 10.0
SUCCESSOR_RETRY_SECONDS = 5.0
logger = logging.getLogger(__name__)


class StreamLoop(ABC):
    """One stream under one fence. `serve` never returns; it ends by an exception, mostly SocketEnded."""

    patience = Patience()

    def __init__(self, stream: str, database: DatabaseThread, fence: Fence) -> None:
        self.feed = Feed(stream, database, fence)
        self.database = database
        self.fence = fence
        self._url = ""
        self._socket: StreamSocket | None = None

    @abstractmethod
    async def prepare(self) -> str:
        """What is needed before connecting; the URL to connect to."""

    @abstractmethod
    async def subscribe(self, socket: StreamSocket) -> None:
        """Ask for what this stream carries."""

    @abstractmethod
    async def serve(self) -> None:
        """Catch up, and apply what `receive` brings."""

    async def close(self) -> None:
        """Give back what the stream holds, after its last connection."""
        self._socket = None

    async def receive(self) -> list[bytes]:
        """What came since the last call; of a connection that was succeeded, all of it before its successor's."""
        while True:
            socket = self.socket
            try:
                return await socket.receive()
            except SocketEnded:
                if socket is self.socket:
                    raise

    @property
    def socket(self) -> StreamSocket:
        """The connection that is in use."""
        if self._socket is None:
            raise SocketEnded("not connected")
        return self._socket

    async def _succeed(self) -> None:
        """Whenever the connection is about to end, open and subscribe the next one before leaving it.

        Both deliver for a moment, which does no harm: candles are known by their open time and account
        events by their hash. Without a successor the old one is used up to its end.
        """
        while True:
            old = self.socket
            reason = await old.retired()
            successor = await self._successor()
            if successor is None:
                await asyncio.sleep(SUCCESSOR_RETRY_SECONDS)
                continue
            self._socket = successor
            try:
                await self.feed.succeeded(reason)
            finally:
                await old.close()
            logger.info("stream handed over: %s", reason, extra={"stream": self.feed.stream})

    async def _successor(self) -> StreamSocket | None:
        """A connection that has answered our subscription, or None."""
        successor: StreamSocket | None = None
        try:
            successor = await connect(self._url, self.patience)
            await self.subscribe(successor)
            async with asyncio.timeout(SUCCESSOR_ANSWER_SECONDS):
                await successor.has_frames()
            taken, successor = successor, None
        except (SocketEnded, TimeoutError) as error:
            logger.warning("no successor yet: %s", error, extra={"stream": self.feed.stream})
            return None
        finally:
            if successor is not None:
                await successor.close()
        return taken

    async def run(self) -> None:
        """Keep the stream up until cancelled; raises LeaseLost when another process took over."""
        backoff = Backoff()
        while True:
            ended, useful = await self._one_connection()
            if useful:
                backoff.succeeded()
            seconds = 0.0 if ended.at_once and useful else backoff.next_seconds()
            logger.warning(
                "stream ended: %s",
                ended.reason,
                extra={"stream": self.feed.stream, "retry_in_seconds": round(seconds, 2)},
            )
            await asyncio.sleep(seconds)

    async def _one_connection(self) -> tuple[SocketEnded, bool]:
        """One connection from beginning to end: why it ended, and whether it had caught up before."""
        self._socket = None
        ended, useful, attempted = SocketEnded("stopped"), False, True
        try:
            self._url = await self.prepare()
            self._socket = await connect(self._url, self.patience)
            await self.feed.opened()
            await self.subscribe(self._socket)
            await until_first_ends(self.serve(), self._succeed())
        except SocketEnded as end:
            ended = end
        except asyncio.CancelledError:
            attempted = False
            raise
        except LeaseLost:
            attempted = False
            ended = SocketEnded("the lease was lost")
            raise
        except (MarketError, SettingError) as error:
            ended = SocketEnded(str(error))
        except Error as error:
            ended = SocketEnded(f"the database did not take a write ({type(error).__name__})")
        except Exception as error:  # a process loop: record it and go on with a fresh connection
            logger.exception("stream failed", extra={"stream": self.feed.stream})
            ended = SocketEnded(f"internal error ({type(error).__name__})")
        finally:
            useful = self.feed.resynced
            if self._socket is not None:
                await self._socket.close()
            await self._record_end(ended.reason, attempted=attempted)
        return ended, useful

    async def _record_end(self, reason: str, *, attempted: bool) -> None:
        try:
            await self.feed.ended(reason, attempted=attempted)
        except Error as error:
            logger.warning("end of stream not recorded", extra={"error": type(error).__name__})
