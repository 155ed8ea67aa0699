"""How the streams do. Whatever cannot be seen to be well is stale (invariant 14)."""

from datetime import datetime, timedelta

from django.conf import settings

from market import rules
from market.contracts import Connection, FeedHealth, ReconnectRate, Shard, Stream
from market.models import CandleHole, FeedAttempt, FeedSession, FeedState

# The market is never silent for long; the account stream is kept alive by our own request every 10 s.
STALE_AFTER_SECONDS = {Stream.MARKET: 5.0, Stream.ACCOUNT: 30.0}
RATE_WINDOW = timedelta(days=7)


def shards() -> tuple[Shard, ...]:
    """The shards of settings.SYMBOLS: the same in every process."""
    return rules.split_in_shards(settings.SYMBOLS, settings.SYMBOLS_PER_SHARD)


def stream_names() -> list[str]:
    """Every stream that there has to be: `market` (and `market-2`, … when there are many symbols), `account`."""
    return [*(shard.name for shard in shards()), Stream.ACCOUNT]


def feed_health(now: datetime) -> list[FeedHealth]:
    """The health of every market shard and of the account stream, by receive time."""
    rows = {r.stream: r for r in FeedState.objects.filter(environment=settings.TRADING_ENVIRONMENT)}
    return [_judge(stream, rows.get(stream), now) for stream in stream_names()]


def stale_feeds(now: datetime) -> tuple[str, ...]:
    """`stream: reason` of each stream that is stale; empty when all are well."""
    return tuple(f"{h.stream}: {h.reason}" for h in feed_health(now) if h.stale)


def _judge(stream: str, row: FeedState | None, now: datetime) -> FeedHealth:
    if row is None:
        return FeedHealth(stream, connected=False, age_seconds=None, stale=True, reason="never started")
    age = (now - row.last_message_at).total_seconds() if row.last_message_at else None
    kind = Stream.ACCOUNT if stream == Stream.ACCOUNT else Stream.MARKET
    reason = _reason(row, age, STALE_AFTER_SECONDS[kind])
    return FeedHealth(
        stream,
        row.connected,
        age,
        stale=bool(reason),
        reason=reason,
        messages_last_minute=row.messages_last_minute,
    )


def _reason(row: FeedState, age: float | None, limit: float) -> str:
    if not row.connected:
        return f"not connected ({row.detail})" if row.detail else "not connected"
    if row.resynced_at is None:
        return "connected, and what was missed is still being fetched"
    if age is None:
        return "connected, and no message has come yet"
    if age < -limit:
        return f"the last message is dated {-age:.1f} s ahead: the clock was set back, and nothing came since"
    if age > limit:
        return f"no message for {age:.1f} s (limit {limit:.0f} s)"
    return ""


def reconnect_rate(stream: str, now: datetime) -> ReconnectRate:
    """The SLO `ws_reconnect_success_rate` of one stream over RATE_WINDOW."""
    rows = FeedSession.objects.filter(
        environment=settings.TRADING_ENVIRONMENT, stream=stream, connected_at__gt=now - RATE_WINDOW
    )
    values = rows.order_by("id").values_list("resynced_at", "ended_at", "end_reason")
    return rules.reconnect_rate([Connection(*row) for row in values], now)


def recent_sessions(limit: int) -> list[FeedSession]:
    """The last connections of all streams, newest first."""
    rows = FeedSession.objects.filter(environment=settings.TRADING_ENVIRONMENT)
    return list(rows.order_by("-id")[:limit])


def recent_attempts(limit: int) -> list[FeedAttempt]:
    """The last connections that could not be made, newest first."""
    rows = FeedAttempt.objects.filter(environment=settings.TRADING_ENVIRONMENT)
    return list(rows.order_by("-id")[:limit])


def recent_holes(limit: int) -> list[CandleHole]:
    """The last holes found in the stored minutes, newest first."""
    rows = CandleHole.objects.filter(environment=settings.TRADING_ENVIRONMENT)
    return list(rows.order_by("-id")[:limit])
