"""Signs of life of the parts, kept in Postgres: the age of the last one says whether a part still works."""

from datetime import datetime
from typing import Any

from tradingbot.core.models import Heartbeat


def beat(part: str, *, now: datetime, **detail: Any) -> None:
    """Record that `part` works at `now`."""
    Heartbeat.objects.update_or_create(part=part, defaults={"beat_at": now, "detail": detail})


def age_seconds(part: str, *, now: datetime) -> float | None:
    """Seconds since the last sign of life of `part`, or None when there never was one."""
    found = Heartbeat.objects.filter(part=part).values_list("beat_at", flat=True).first()
    return (now - found).total_seconds() if found else None
