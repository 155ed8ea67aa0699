"""The account stream: raw user-data events from the WS API into Postgres, in order of arrival."""

import asyncio
import logging
from datetime import datetime

from django.conf import settings
from django.db import Error

from market import rules
from market.adapters import user_data
from market.adapters.binance_rest import MarketClient
from market.adapters.stream_client import Patience, SocketEnded, StreamSocket
from market.contracts import AccountFrame, Fence, MalformedFrame, Stream
from market.rules import Reply
from market.services import account_events
from market.services.database_thread import DatabaseThread
from market.services.stream_loop import StreamLoop
from market.services.together import until_first_ends
from tradingbot.core import clock

logger = logging.getLogger(__name__)
PING_SECONDS = 10.0
STORE_ATTEMPTS = 20
STORE_PAUSE_SECONDS = 0.5
SUBSCRIBE_TIMEOUT_SECONDS = 10.0
SUBSCRIBE_ID = "subscribe"
TERMINATED = "eventStreamTerminated"


class AccountStream(StreamLoop):
    """This environment's account on one connection of the WS API."""

    patience = Patience(frame_seconds=2.5 * PING_SECONDS, message_seconds=2.5 * PING_SECONDS)

    def __init__(self, database: DatabaseThread, fence: Fence) -> None:
        super().__init__(Stream.ACCOUNT, database, fence)
        self._client = MarketClient()
        self._clock_offset_ms = 0
        self._unstored: list[AccountFrame] = []  # survives a reconnect: nothing received is forgotten

    async def prepare(self) -> str:
        """Measures the clock anew before each connection, so that the signature is never dated wrongly."""
        await self._store()
        self._clock_offset_ms = await asyncio.to_thread(self._client.measure_clock_offset_ms)
        return settings.EXCHANGE.ws_api_url

    async def subscribe(self, socket: StreamSocket) -> None:
        if self.feed.resynced:  # a successor, hours after `prepare`: our clock may have drifted since
            self._clock_offset_ms = await asyncio.to_thread(self._client.measure_clock_offset_ms)
        socket.send(
            user_data.subscribe_request(SUBSCRIBE_ID, now=clock.now(), clock_offset_ms=self._clock_offset_ms)
        )

    async def serve(self) -> None:
        await until_first_ends(self._read(), self._keep_alive())

    async def _read(self) -> None:
        while True:
            frames = await self.receive()
            now = clock.now()
            self.feed.received(len(frames), now)
            for frame in frames:
                await self._take(frame, now)
            await self._store_patiently()

    async def _take(self, frame: bytes, now: datetime) -> None:
        try:
            message = rules.parse_reply(frame, received_at=now)
        except MalformedFrame as error:
            self.feed.rejected(frame, error)
            return
        if isinstance(message, Reply):
            await self._answered(message)
        elif isinstance(message, AccountFrame) and message.event_type != TERMINATED:
            self._unstored.append(message)
        elif isinstance(message, AccountFrame):
            # A gap begins here. Store what came before it, then subscribe again on a fresh connection.
            await self._store()
            raise SocketEnded(f"the exchange sent {TERMINATED}", at_once=True)
        else:
            self.socket.retire(f"the exchange sent {rules.SHUTDOWN}")

    async def _answered(self, reply: Reply) -> None:
        if reply.error:
            raise SocketEnded(f"the request {reply.request_id} was refused: {reply.error}")
        if reply.request_id == SUBSCRIBE_ID:
            await self.feed.caught_up()

    async def _store_patiently(self) -> None:
        """The exchange sends no event twice: while the database is away they wait, here and in the socket."""
        for _ in range(STORE_ATTEMPTS - 1):
            try:
                return await self._store()
            except Error as error:
                logger.warning("account events wait", extra={"error": type(error).__name__})
                await asyncio.sleep(STORE_PAUSE_SECONDS)
        return await self._store()

    async def _store(self) -> None:
        if self._unstored:
            await self.database.run(
                account_events.record_account_events, events=list(self._unstored), fence=self.fence
            )
            self._unstored.clear()

    async def _keep_alive(self) -> None:
        await asyncio.sleep(SUBSCRIBE_TIMEOUT_SECONDS)
        if not self.feed.resynced:
            raise SocketEnded(f"no answer to the subscription in {SUBSCRIBE_TIMEOUT_SECONDS:.0f} s")
        number = 0
        while True:
            number += 1
            self.socket.send(user_data.ping_request(f"ping-{number}"))
            await asyncio.sleep(PING_SECONDS)
