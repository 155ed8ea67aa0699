"""How the parts do: what is wrong now, and whether the product is ready for work."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import redis
from django.conf import settings
from django.db import Error as DatabaseProblem
from django.db import connection

from execution import selectors as execution_selectors
from market import selectors as market_selectors
from market.contracts import UnknownInstrument
from tradingbot.core.boot import missing_migrations
from tradingbot.core.models import Alert, Heartbeat

QUEUES = ("trading", "streams", "advisor", "alerts")
QUEUE_SILENT_AFTER_SECONDS = 20
RECONCILIATION_LATE_AFTER_SECONDS = 150  # polled every 60 s
REDIS_TIMEOUT_SECONDS = 1

FEED_STALE, QUEUE_SILENT, RECONCILIATION_LATE = "feed_stale", "queue_silent", "reconciliation_late"
WATCHED_KINDS = (FEED_STALE, QUEUE_SILENT, RECONCILIATION_LATE)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that a person must know of for as long as it lasts."""

    kind: str
    severity: Alert.Severity
    subject: str
    title: str
    detail: str

    @property
    def key(self) -> str:
        """The alert's dedupe key."""
        return f"{self.kind}:{self.subject}" if self.subject else self.kind


def problems(now: datetime) -> dict[str, Problem]:
    """All that is wrong now, by alert key: stale feeds, silent queues, a late reconciliation."""
    found = [*_stale_feeds(now), *_silent_queues(now), *_late_reconciliation(now)]
    return {problem.key: problem for problem in found}


def _stale_feeds(now: datetime) -> list[Problem]:
    return [
        Problem(
            kind=FEED_STALE,
            severity=Alert.Severity.CRITICAL,
            subject=str(feed.stream),
            title=f"The {feed.stream} stream is stale: nothing new is opened",
            detail=feed.reason,
        )
        for feed in market_selectors.feed_health(now)
        if feed.stale
    ]


def _silent_queues(now: datetime) -> list[Problem]:
    ages = queue_ages_seconds(now)
    return [
        Problem(
            kind=QUEUE_SILENT,
            severity=Alert.Severity.CRITICAL if queue == "trading" else Alert.Severity.HIGH,
            subject=queue,
            title=f"The {queue} worker does not work",
            detail=_queue_detail(ages[queue]),
        )
        for queue in QUEUES
        if _is_silent(ages[queue])
    ]


def _late_reconciliation(now: datetime) -> list[Problem]:
    run = execution_selectors.last_completed_run()
    age = (now - run.finished_at).total_seconds() if run and run.finished_at else None
    if age is not None and age <= RECONCILIATION_LATE_AFTER_SECONDS:
        return []
    detail = "none has completed yet" if age is None else f"the last one ended {age:.0f} s ago"
    return [
        Problem(
            kind=RECONCILIATION_LATE,
            severity=Alert.Severity.HIGH,
            subject="",
            title="Reconciliation is late: nothing new is opened",
            detail=detail,
        )
    ]


def queue_ages_seconds(now: datetime) -> dict[str, float | None]:
    """Seconds since each queue's canary last ran; None for one that never did."""
    beats = dict(
        Heartbeat.objects.filter(part__in=[f"queue:{q}" for q in QUEUES]).values_list("part", "beat_at")
    )
    return {
        queue: (now - beats[f"queue:{queue}"]).total_seconds() if f"queue:{queue}" in beats else None
        for queue in QUEUES
    }


def _is_silent(age_seconds: float | None) -> bool:
    return age_seconds is None or age_seconds > QUEUE_SILENT_AFTER_SECONDS


def _queue_detail(age_seconds: float | None) -> str:
    return "has never worked" if age_seconds is None else f"last worked {age_seconds:.0f} s ago"


def open_watched_alerts() -> set[str]:
    """The keys of open alerts that the health watch raised."""
    rows = Alert.objects.filter(resolved_at__isnull=True, kind__in=WATCHED_KINDS)
    return set(rows.values_list("dedupe_key", flat=True))


# --- readiness -------------------------------------------------------------------------------------------
Part = dict[str, Any]


def readiness(now: datetime) -> tuple[bool, dict[str, Part]]:
    """Whether every part is ready for work, and each part with `ok` and `detail` in words.

    The model is no part of it: without one there are no proposals, and nothing else suffers.
    """
    parts: dict[str, Part] = {"database": _guarded(_database), "redis": _redis()}
    reads: dict[str, Callable[[], dict[str, Part]]] = {
        "migrations": lambda: {"migrations": _migrations()},
        "queues": lambda: _queues(now),
        "feeds": lambda: _feeds(now),
        "instruments": lambda: {"instruments": _instruments()},
    }
    for name, read in reads.items():
        try:
            parts |= read()
        except DatabaseProblem as error:
            parts[name] = _part(False, f"the database does not answer ({type(error).__name__})")
    return all(part["ok"] for part in parts.values()), parts


def _part(ok: bool, detail: str) -> Part:
    return {"ok": ok, "detail": detail}


def _guarded(read: Callable[[], Part]) -> Part:
    try:
        return read()
    except DatabaseProblem as error:
        return _part(False, f"does not answer ({type(error).__name__})")


def _database() -> Part:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return _part(True, "answers")


def _migrations() -> Part:
    missing = missing_migrations()
    if not missing:
        return _part(True, "applied")
    return _part(False, f"{len(missing)} not applied: run `manage.py migrate`")


def _redis() -> Part:
    client = redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=REDIS_TIMEOUT_SECONDS,
        socket_connect_timeout=REDIS_TIMEOUT_SECONDS,
    )
    try:
        client.ping()
    except redis.RedisError as error:
        return _part(False, f"does not answer ({type(error).__name__})")
    finally:
        client.close()
    return _part(True, "answers")


def _queues(now: datetime) -> dict[str, Part]:
    ages = queue_ages_seconds(now)
    return {f"queue:{q}": _part(not _is_silent(age), _queue_detail(age)) for q, age in ages.items()}


def _feeds(now: datetime) -> dict[str, Part]:
    """The exchange counts as reachable when a stream to it is open."""
    feeds = market_selectors.feed_health(now)
    parts = {f"feed:{f.stream}": _part(not f.stale, f.reason or "fresh") for f in feeds}
    reachable = any(feed.connected for feed in feeds)
    parts["exchange"] = _part(reachable, "connected" if reachable else "no stream is connected")
    return parts


def _instruments() -> Part:
    missing = [symbol for symbol in settings.SYMBOLS if not _is_loaded(symbol)]
    if missing:
        return _part(False, f"no filters read for {', '.join(missing)}")
    return _part(True, f"{len(settings.SYMBOLS)} loaded")


def _is_loaded(symbol: str) -> bool:
    try:
        market_selectors.symbol_filters(symbol)
    except UnknownInstrument:
        return False
    return True
