"""Connect, serve, reconnect, without end: what both streams have in common."""

import asyncio
import logging
from abc import ABC, abstractmethod

from django.db import Error

from market.adapters.stream_client import Backoff, Patience, SocketEnded, StreamSocket, connect
from market.contracts import Fence, MarketError, Stream
from market.services.database_thread import DatabaseThread
from market.services.feed import Feed
from tradingbot.core.leases import LeaseLost
from tradingbot.env import SettingError

logger = logging.getLogger(__name__)


class StreamLoop(ABC):
    """One stream under one fence. `serve` never returns; it ends by an exception, mostly SocketEnded."""

    patience = Patience()

    def __init__(self, stream: Stream, database: DatabaseThread, fence: Fence) -> None:
        self.feed = Feed(stream, database, fence)
        self.database = database
        self.fence = fence

    @abstractmethod
    async def prepare(self) -> str:
        """What is needed before connecting; the URL to connect to."""

    @abstractmethod
    async def serve(self, socket: StreamSocket) -> None:
        """Subscribe, catch up, and apply what comes."""

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
                extra={"stream": self.feed.stream.value, "retry_in_seconds": round(seconds, 2)},
            )
            await asyncio.sleep(seconds)

    async def _one_connection(self) -> tuple[SocketEnded, bool]:
        """One connection from beginning to end: why it ended, and whether it had caught up before."""
        socket: StreamSocket | None = None
        ended, useful, attempted = SocketEnded("stopped"), False, True
        try:
            socket = await connect(await self.prepare(), self.patience)
            await self.feed.opened()
            await self.serve(socket)
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
            logger.exception("stream failed", extra={"stream": self.feed.stream.value})
            ended = SocketEnded(f"internal error ({type(error).__name__})")
        finally:
            useful = self.feed.resynced
            if socket is not None:
                await socket.close()
            await self._record_end(ended.reason, attempted=attempted)
        return ended, useful

    async def _record_end(self, reason: str, *, attempted: bool) -> None:
        try:
            await self.feed.ended(reason, attempted=attempted)
        except Error as error:
            logger.warning("end of stream not recorded", extra={"error": type(error).__name__})
