"""Keep the streams of this environment: one process at a time, by a lease with a fencing number."""

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

from market.contracts import Fence
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
WAIT_SECONDS = 1.0  # at most 7 s from the holder's death to the takeover
REPORT_SECONDS = 1.0
T = TypeVar("T")


def lease_name() -> str:
    """The lease of this environment's streams."""
    return f"streams:{settings.TRADING_ENVIRONMENT}"


async def run_streams(stop: asyncio.Event) -> None:
    """Hold the lease and keep both streams until `stop`; without the lease wait for it."""
    holder = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
    supervisor = _Supervisor(holder)
    try:
        while not stop.is_set():
            fence = await supervisor.acquire()
            if fence is None:
                await _wait(stop, WAIT_SECONDS)
                continue
            await _hold(supervisor, fence, stop)
    finally:
        await supervisor.close()


async def _hold(supervisor: "_Supervisor", fence: Fence, stop: asyncio.Event) -> None:
    logger.info("streams lease taken", extra={"lease": fence.lease, "fence": fence.number})
    try:
        await until_first_ends(stop.wait(), supervisor.renew(fence), supervisor.stream(fence))
    except LeaseLost as lost:
        logger.warning("streams stopped: %s", lost)
    finally:
        await supervisor.release()


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


class _Supervisor:
    """The lease has a database thread of its own, so that no long write delays its renewal."""

    def __init__(self, holder: str) -> None:
        self._holder = holder
        self._lease_thread = DatabaseThread("lease")
        self._renewed_at = 0.0

    async def acquire(self) -> Fence | None:
        """The lease, or None while another holds it or the database does not answer."""
        asked_at = clock.monotonic_seconds()
        try:
            number = await self._lease_thread.run(
                leases.acquire, lease_name(), holder=self._holder, seconds=LEASE_SECONDS
            )
        except Error as error:
            logger.warning("lease not asked for", extra={"error": type(error).__name__})
            return None
        if number is not None:
            self._renewed_at = asked_at
        return None if number is None else Fence(lease_name(), number)

    def holds_lease(self) -> bool:
        """Whether the last renewal is recent enough that nobody else can hold the lease."""
        return clock.monotonic_seconds() - self._renewed_at < LEASE_SECONDS

    async def renew(self, fence: Fence) -> None:
        """Renew until it fails; raises LeaseLost before the lease could have lapsed unnoticed."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            left = self._renewed_at + LEASE_SECONDS - clock.monotonic_seconds()
            try:
                async with asyncio.timeout(left):
                    renewed = await self.acquire()
            except TimeoutError as error:
                raise LeaseLost(f"the lease {fence.lease} could not be renewed in time") from error
            if renewed is not None and renewed != fence:
                raise LeaseLost(f"the lease {fence.lease} was taken over and has come back to us")
            if renewed is None and left < RENEW_SECONDS:
                raise LeaseLost(f"the lease {fence.lease} is no longer ours")

    async def stream(self, fence: Fence) -> None:
        """Both streams and the report of their state, each with a database thread of its own."""
        threads = [DatabaseThread(name) for name in ("market", "account", "report")]
        market = MarketStream(threads[0], fence, holds_lease=self.holds_lease)
        account = AccountStream(threads[1], fence)
        try:
            await _until_done(threads[2], lambda: feeds.close_open_sessions(now=clock.now(), fence=fence))
            await until_first_ends(market.run(), account.run(), _report([market, account], threads[2], fence))
        finally:
            await market.close()
            for thread in threads:
                await thread.close()

    async def release(self) -> None:
        """Let another process have it at once."""
        with suppress(Error):
            await self._lease_thread.run(leases.release, lease_name(), holder=self._holder)

    async def close(self) -> None:
        """End the lease's thread."""
        await self._lease_thread.close()


async def _until_done(database: DatabaseThread, unit: Callable[[], T]) -> T:
    while True:
        try:
            return await database.run(unit)
        except Error as error:
            logger.warning("database not ready", extra={"error": type(error).__name__})
            await asyncio.sleep(WAIT_SECONDS)


async def _report(loops: list[StreamLoop], database: DatabaseThread, fence: Fence) -> None:
    """Write the state of the streams about once a second: their age is judged from it."""
    while True:
        await asyncio.sleep(REPORT_SECONDS)
        try:
            await database.run(
                feeds.record_status,
                statuses=[loop.feed.status for loop in loops],
                now=clock.now(),
                fence=fence,
            )
        except Error as error:
            logger.warning("stream state not written", extra={"error": type(error).__name__})
