"""Leases with a fencing number, in Postgres (Kleppmann: a paused holder outlives its lease)."""

from django.db import connection

from tradingbot.core.models import Lease

_ACQUIRE = """
INSERT INTO core_lease AS l (name, holder, fence, expires_at)
VALUES (%(name)s, %(holder)s, 1, clock_timestamp() + %(seconds)s * interval '1 second')
ON CONFLICT (name) DO UPDATE
SET holder = EXCLUDED.holder, expires_at = EXCLUDED.expires_at,
    fence = CASE WHEN l.holder = EXCLUDED.holder THEN l.fence ELSE l.fence + 1 END
WHERE l.holder = EXCLUDED.holder OR l.expires_at < clock_timestamp()
RETURNING fence
"""


class LeaseLost(Exception):
    """Another holder has taken the lease over; this one must stop writing."""


def acquire(name: str, *, holder: str, seconds: float) -> int | None:
    """Take or renew the lease for `seconds`; its fencing number, or None while somebody else holds it.

    Judged by the database's clock. The number rises at every takeover and stays at a renewal.
    """
    with connection.cursor() as cursor:
        cursor.execute(_ACQUIRE, {"name": name, "holder": holder, "seconds": seconds})
        row = cursor.fetchone()
    return row[0] if row else None


def release(name: str, *, holder: str) -> None:
    """Let the lease lapse now, so that another process need not wait it out."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE core_lease SET expires_at = clock_timestamp() WHERE name = %s AND holder = %s",
            [name, holder],
        )


def check_fence(name: str, fence: int) -> None:
    """Raise LeaseLost unless `fence` is still the lease's number; locks the row until the commit."""
    if not Lease.objects.select_for_update().filter(pk=name, fence=fence).exists():
        raise LeaseLost(f"the lease {name} has been taken over (our fence was {fence})")
