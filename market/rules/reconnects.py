"""The SLO `ws_reconnect_success_rate` (reliability.md): back and caught up within 30 s of the end before."""

import math
from collections.abc import Sequence
from datetime import datetime, timedelta

from market.contracts import Connection, ReconnectRate

RECONNECT_GOAL_PCT = 99
IN_TIME = timedelta(seconds=30)
STOPPED = "stopped"  # we ended it ourselves, for good: no reconnect was due
_Z95 = 1.96


def reconnect_rate(connections: Sequence[Connection], now: datetime) -> ReconnectRate:
    """The rate over one stream's connections, oldest first.

    Every end of a connection that had caught up, but for our own stops, is one reconnect; it is good when a
    later connection had caught up at most IN_TIME after it. One that still has time is not counted yet.
    """
    total = good = 0
    for number, connection in enumerate(connections):
        if connection.resynced_at is None or connection.ended_at is None or connection.end_reason == STOPPED:
            continue
        limit = connection.ended_at + IN_TIME
        later = (c.resynced_at for c in connections[number + 1 :] if c.resynced_at is not None)
        back_at = next(later, None)
        if back_at is None and now < limit:
            continue
        total += 1
        good += back_at is not None and back_at <= limit
    if not total:
        return ReconnectRate(0, 0, None, None)
    return ReconnectRate(total, good, 100 * good / total, 100 * _wilson_lower(good, total))


def _wilson_lower(good: int, total: int) -> float:
    share, z2 = good / total, _Z95**2
    centre = share + z2 / (2 * total)
    spread = _Z95 * math.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    return max(0.0, (centre - spread) / (1 + z2 / total))
