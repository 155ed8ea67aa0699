"""The parts of the table of trades: one for each environment and UTC day of market time.

Made ahead and dropped by the beat task; a writer that finds none for its trades makes it itself, so that no
trade is refused for want of a part. There is no default part: a new one would have to search it under a lock.
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta

from django.conf import settings
from django.db import connection, transaction

DAY = timedelta(days=1)
DAYS_AHEAD = 2
_PARTS = """
SELECT child.relname FROM pg_inherits
JOIN pg_class AS child ON child.oid = inhrelid
WHERE inhparent = %s::regclass ORDER BY child.relname
"""


def ensure_parts(days: Iterable[date]) -> None:
    """Make the part of each of `days` in this environment that does not exist yet."""
    parent = _parent()
    with transaction.atomic(), connection.cursor() as cursor:
        # One maker at a time: IF NOT EXISTS alone does not keep two from making the same table.
        cursor.execute(f"LOCK TABLE ONLY {parent} IN SHARE UPDATE EXCLUSIVE MODE")
        for day in sorted(set(days)):
            start = datetime(day.year, day.month, day.day, tzinfo=UTC)
            cursor.execute(
                f"CREATE TABLE IF NOT EXISTS {_name(day)} PARTITION OF {parent} FOR VALUES FROM (%s) TO (%s)",
                [start.isoformat(), (start + DAY).isoformat()],
            )


def drop_parts_before(day: date) -> int:
    """Drop the parts of the days before `day` in this environment, each in a transaction; how many."""
    old = [name for name in parts() if name < _name(day)]
    for name in old:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"DROP TABLE IF EXISTS {name}")
    return len(old)


def parts() -> list[str]:
    """The names of this environment's parts, oldest first."""
    with connection.cursor() as cursor:
        cursor.execute(_PARTS, [_parent()])
        return [name for (name,) in cursor.fetchall()]


def _parent() -> str:
    return f"market_trade_{settings.TRADING_ENVIRONMENT.value}"


def _name(day: date) -> str:
    return f"{_parent()}_{day:%Y%m%d}"
