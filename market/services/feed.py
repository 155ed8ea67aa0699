"""What one stream knows of itself, in memory, and its rows in the database."""

import logging
from collections import deque
from datetime import datetime

from market.contracts import Fence, MalformedFrame, StreamStatus
from market.services import feeds
from market.services.database_thread import DatabaseThread
from tradingbot.core import clock
from tradingbot.core.audit import sha256_hex

logger = logging.getLogger(__name__)
LOGGED_REJECTS_MAX = 200
RATE_SECONDS = 60


class Feed:
    """One stream under one fence. The supervisor writes `status` once a second; changes are written at once."""

    def __init__(self, stream: str, database: DatabaseThread, fence: Fence) -> None:
        self.stream = stream
        self._database = database
        self._fence = fence
        self._session_id: int | None = None
        self._last_message_at: datetime | None = None
        self._resynced_at: datetime | None = None
        self._detail = ""
        self._messages = 0
        self._by_second: deque[tuple[int, int]] = deque(maxlen=RATE_SECONDS)
        self._backfilled = 0
        self._rejected = 0
        self._rejects_seen: set[str] = set()

    @property
    def resynced(self) -> bool:
        """Whether the present connection has caught up with what was missed."""
        return self._resynced_at is not None

    @property
    def status(self) -> StreamStatus:
        """The present state."""
        return StreamStatus(
            self.stream,
            connected=self._session_id is not None,
            last_message_at=self._last_message_at,
            resynced_at=self._resynced_at,
            detail=self._detail,
            messages_last_minute=self._last_minute(),
        )

    def _last_minute(self) -> int:
        oldest = int(clock.monotonic_seconds()) - RATE_SECONDS
        return sum(count for second, count in self._by_second if second > oldest)

    async def opened(self) -> None:
        """A connection stands."""
        now = clock.now()
        self._messages = self._backfilled = 0
        self._last_message_at = self._resynced_at = None
        self._detail = ""
        status = StreamStatus(self.stream, connected=True, last_message_at=None, resynced_at=None)
        self._session_id = await self._database.run(
            feeds.open_session, status=status, now=now, fence=self._fence
        )

    async def succeeded(self, reason: str) -> None:
        """Another connection has taken the place of this one without a gap."""
        now = clock.now()
        self._resynced_at = now
        self._session_id = await self._database.run(
            feeds.succeed_session,
            session_id=self._session_id,
            status=self.status,
            reason=reason,
            message_count=self._messages,
            backfilled_candles=self._backfilled,
            now=now,
            fence=self._fence,
        )
        self._messages = self._backfilled = 0

    def received(self, messages: int, at: datetime) -> None:
        """So many messages came at `at`."""
        self._messages += messages
        second = int(clock.monotonic_seconds())
        if self._by_second and self._by_second[-1][0] == second:
            messages += self._by_second.pop()[1]
        self._by_second.append((second, messages))
        self._last_message_at = at

    def backfilled(self, candles: int) -> None:
        """So many candles were fetched by REST that the socket did not bring."""
        self._backfilled += candles

    def rejected(self, frame: bytes, error: MalformedFrame) -> None:
        """Count a malformed frame; log each distinct one once, with its hash and not its content."""
        self._rejected += 1
        self._detail = f"{self._rejected} frames refused, last: {error}"
        digest = sha256_hex(frame)
        if digest in self._rejects_seen or len(self._rejects_seen) >= LOGGED_REJECTS_MAX:
            return
        self._rejects_seen.add(digest)
        logger.warning(
            "frame refused: %s",
            error,
            extra={"stream": self.stream, "sha256": digest, "bytes": len(frame)},
        )

    async def caught_up(self) -> None:
        """What was missed is fetched, or the subscription is confirmed: the stream may be relied on."""
        self._resynced_at = clock.now()
        await self._database.run(
            feeds.resync_session,
            session_id=self._session_id,
            status=self.status,
            backfilled_candles=self._backfilled,
            now=self._resynced_at,
            fence=self._fence,
        )

    async def ended(self, reason: str, *, attempted: bool = False) -> None:
        """The connection is over, or could not be made (then `attempted` writes it down)."""
        session_id, self._session_id = self._session_id, None
        self._resynced_at = None
        self._detail = reason
        now = clock.now()
        if session_id is None:
            record = feeds.record_attempt if attempted else feeds.record_status
            await self._database.run(record, statuses=[self.status], now=now, fence=self._fence)
            return
        await self._database.run(
            feeds.end_session,
            session_id=session_id,
            status=self.status,
            reason=reason,
            message_count=self._messages,
            backfilled_candles=self._backfilled,
            now=now,
            fence=self._fence,
        )
