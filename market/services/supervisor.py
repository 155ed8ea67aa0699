"""Keep the streams of this environment: each in one process at a time, by a lease with a fencing number.

The account is one stream, each shard of symbols another; every one has a lease of its own. A process takes
what is free, so that two stream workers share them, and each takes over what a dead one held.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar
from uuid import uuid4

from django.conf import settings
from django.db import Error

from market import selectors
from market.contracts import Fence, Shard, Stream
from market.services import feeds
from market.services.account_stream import AccountStream
from market.services.database_thread import DatabaseThread
from market.services.market_stream import MarketStream
from market.services.stream_loop import StreamLoop
from market.services.together import until_first_ends
from tradingbot.core import clock, leases
from tradingbot.core.leases import LeaseLost

logger = logging.getLogger(__name__)
LEASE_SECONDS = 6.0
RENEW_SECONDS = 2.0
# How often a free lease is looked for: who holds one already leaves the next to a process that is idle.
# At most 8 s from the holder's death to the takeover.
WAIT_SECONDS = 0.5
WAIT_BUSY_SECONDS = 2.0
REPORT_SECONDS = 1.0
T = TypeVar("T")


def lease_name(stream: str) -> str:
    """The lease of a stream of this environment."""
    return f"streams:{settings.TRADING_ENVIRONMENT}:{stream}"


async def run_streams(stop: asyncio.Event) -> None:
    """Hold what leases are free and keep their streams until `stop`; for the others wait."""
    process = _Process()
    keepers = [_Keeper(process, shard) for shard in selectors.shards()]
    keepers.append(_Keeper(process, None))
    try:
        async with asyncio.TaskGroup() as group:
            for keeper in keepers:
                group.create_task(keeper.run(stop))
    finally:
        await process.close()


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


class _Process:
    """What the keepers of a process share. Leases have a database thread that no long write delays."""

    def __init__(self) -> None:
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
        self.leases = DatabaseThread("lease")
        self.reports = DatabaseThread("report")
        self.held = 0

    async def close(self) -> None:
        """End the threads."""
        await self.leases.close()
        await self.reports.close()


class _Keeper:
    """Takes the lease of one stream whenever it is free, and keeps the stream while it holds it."""

    def __init__(self, process: _Process, shard: Shard | None) -> None:
        self._process = process
        self._shard = shard
        self._stream: str = shard.name if shard is not None else Stream.ACCOUNT
        self._lease = lease_name(self._stream)
        self._renewed_at = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`."""
        while not stop.is_set():
            fence = await self._acquire()
            if fence is not None:
                await self._hold(fence, stop)
            else:
                await _wait(stop, WAIT_BUSY_SECONDS if self._process.held else WAIT_SECONDS)

    async def _hold(self, fence: Fence, stop: asyncio.Event) -> None:
        logger.info("lease taken", extra={"lease": fence.lease, "fence": fence.number})
        self._process.held += 1
        try:
            await until_first_ends(stop.wait(), self._renew(fence), self._keep(fence))
        except LeaseLost as lost:
            logger.warning("%s stream stopped: %s", self._stream, lost)
        finally:
            self._process.held -= 1
            await self._release()

    async def _acquire(self) -> Fence | None:
        """The lease, or None while another holds it or the database does not answer."""
        asked_at = clock.monotonic_seconds()
        try:
            number = await self._process.leases.run(
                leases.acquire, self._lease, holder=self._process.holder, seconds=LEASE_SECONDS
            )
        except Error as error:
            logger.warning("lease not asked for", extra={"error": type(error).__name__})
            return None
        if number is not None:
            self._renewed_at = asked_at
        return None if number is None else Fence(self._lease, number)

    def _holds_lease(self) -> bool:
        """Whether the last renewal is recent enough that nobody else can hold the lease."""
        return clock.monotonic_seconds() - self._renewed_at < LEASE_SECONDS

    async def _renew(self, fence: Fence) -> None:
        """Renew until it fails; raises LeaseLost before the lease could have lapsed unnoticed."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            left = self._renewed_at + LEASE_SECONDS - clock.monotonic_seconds()
            try:
                async with asyncio.timeout(left):
                    renewed = await self._acquire()
            except TimeoutError as error:
                raise LeaseLost(f"the lease {fence.lease} could not be renewed in time") from error
            if renewed is not None and renewed != fence:
                raise LeaseLost(f"the lease {fence.lease} was taken over and has come back to us")
            if renewed is None and left < RENEW_SECONDS:
                raise LeaseLost(f"the lease {fence.lease} is no longer ours")

    async def _keep(self, fence: Fence) -> None:
        """The stream and the report of its state; what it writes with are threads of its own."""
        threads = [DatabaseThread(f"{self._stream} {subject}") for subject in ("writes", "trades")]
        loop = self._make_loop(threads, fence)
        try:
            await _until_done(
                self._process.reports,
                lambda: feeds.close_open_sessions(stream=self._stream, now=clock.now(), fence=fence),
            )
            await until_first_ends(loop.run(), _report(loop, self._process.reports, fence))
        finally:
            await loop.close()
            # A report that was under way may have come after the end: the last word is how it stands now.
            with suppress(Error, LeaseLost):
                await self._process.reports.run(
                    feeds.record_status, statuses=[loop.feed.status], now=clock.now(), fence=fence
                )
            for thread in threads:
                await thread.close()

    def _make_loop(self, threads: list[DatabaseThread], fence: Fence) -> StreamLoop:
        if self._shard is None:
            return AccountStream(threads[0], fence)
        writes, trades = threads
        return MarketStream(self._shard, writes, trades, fence, holds_lease=self._holds_lease)

    async def _release(self) -> None:
        """Let another process have it at once."""
        with suppress(Error):
            await self._process.leases.run(leases.release, self._lease, holder=self._process.holder)


async def _until_done(database: DatabaseThread, unit: Callable[[], T]) -> T:
    while True:
        try:
            return await database.run(unit)
        except Error as error:
            logger.warning("database not ready", extra={"error": type(error).__name__})
            await asyncio.sleep(WAIT_SECONDS)


async def _report(loop: StreamLoop, database: DatabaseThread, fence: Fence) -> None:
    """Write the state of the stream about once a second: its age is judged from it."""
    while True:
        await asyncio.sleep(REPORT_SECONDS)
        try:
            await database.run(feeds.record_status, statuses=[loop.feed.status], now=clock.now(), fence=fence)
        except Error as error:
            logger.warning("stream state not written", extra={"error": type(error).__name__})
