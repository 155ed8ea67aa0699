"""Feed sessions (one row a connection) and feed states (one row a stream)."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import Q

from market import selectors
from market.contracts import Fence, StreamStatus
from market.models import FeedAttempt, FeedSession, FeedState
from market.services import fencing
from tradingbot.core.announce import announce

DETAIL_LENGTH_MAX = 200


def open_session(*, status: StreamStatus, now: datetime, fence: Fence) -> int:
    """Record that a connection began; the id of its session. Raises LeaseLost."""
    with transaction.atomic():
        fencing.check(fence)
        session = FeedSession.objects.create(
            environment=settings.TRADING_ENVIRONMENT, stream=status.stream, connected_at=now
        )
        _write_status(status, now, fence)
    return session.pk


def resync_session(
    *, session_id: int, status: StreamStatus, backfilled_candles: int, now: datetime, fence: Fence
) -> None:
    """Record that what was missed has been fetched (market) or that events flow (account). Raises LeaseLost."""
    with transaction.atomic():
        fencing.check(fence)
        FeedSession.objects.filter(pk=session_id).update(
            resynced_at=now, backfilled_candles=backfilled_candles
        )
        _write_status(status, now, fence)


def end_session(
    *,
    session_id: int,
    status: StreamStatus,
    reason: str,
    message_count: int,
    backfilled_candles: int,
    now: datetime,
    fence: Fence,
) -> None:
    """Record the end of a connection with its reason. Raises LeaseLost."""
    with transaction.atomic():
        fencing.check(fence)
        FeedSession.objects.filter(pk=session_id).update(
            ended_at=now,
            end_reason=reason[:DETAIL_LENGTH_MAX],
            message_count=message_count,
            backfilled_candles=backfilled_candles,
        )
        _write_status(status, now, fence)


def succeed_session(
    *,
    session_id: int,
    status: StreamStatus,
    reason: str,
    message_count: int,
    backfilled_candles: int,
    now: datetime,
    fence: Fence,
) -> int:
    """Record that another connection took over without a gap; the id of its session. Raises LeaseLost."""
    with transaction.atomic():
        end_session(
            session_id=session_id,
            status=status,
            reason=reason,
            message_count=message_count,
            backfilled_candles=backfilled_candles,
            now=now,
            fence=fence,
        )
        successor_id = open_session(status=status, now=now, fence=fence)
        resync_session(session_id=successor_id, status=status, backfilled_candles=0, now=now, fence=fence)
    return successor_id


def close_open_sessions(*, stream: str, now: datetime, fence: Fence) -> int:
    """After a takeover: end the sessions of `stream` that the holder before us left open; how many.

    Those of shards that there are no more, since SYMBOLS changed, are ended as well.
    """
    gone = ~Q(stream__in=selectors.stream_names())
    with transaction.atomic():
        fencing.check(fence)
        rows = FeedSession.objects.filter(
            Q(stream=stream) | gone, environment=settings.TRADING_ENVIRONMENT, ended_at=None
        )
        closed = rows.update(ended_at=now, end_reason="its process died or lost the lease")
        _write_status(StreamStatus(stream, False, None, None, "starting"), now, fence)
    return closed


def record_status(*, statuses: Sequence[StreamStatus], now: datetime, fence: Fence) -> None:
    """Write the present state of the streams, about once a second. Raises LeaseLost."""
    with transaction.atomic():
        fencing.check(fence)
        for status in statuses:
            _write_status(status, now, fence)


def record_attempt(*, statuses: Sequence[StreamStatus], now: datetime, fence: Fence) -> None:
    """Record connections that could not be made; the reason is the status's detail. Raises LeaseLost."""
    with transaction.atomic():
        record_status(statuses=statuses, now=now, fence=fence)
        FeedAttempt.objects.bulk_create(
            FeedAttempt(
                environment=settings.TRADING_ENVIRONMENT,
                stream=status.stream,
                at=now,
                reason=status.detail[:DETAIL_LENGTH_MAX],
            )
            for status in statuses
        )


def _write_status(status: StreamStatus, now: datetime, fence: Fence) -> None:
    key: dict[str, Any] = {"environment": settings.TRADING_ENVIRONMENT, "stream": status.stream}
    before = FeedState.objects.filter(**key).values_list("connected", "resynced_at").first()
    FeedState.objects.update_or_create(
        **key,
        defaults={
            "connected": status.connected,
            "last_message_at": status.last_message_at,
            "resynced_at": status.resynced_at,
            "updated_at": now,
            "fence": fence.number,
            "detail": status.detail[:DETAIL_LENGTH_MAX],
            "messages_last_minute": status.messages_last_minute,
        },
    )
    if before != (status.connected, status.resynced_at):
        announce("feed", status.stream)
