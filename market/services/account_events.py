"""Raw user-data events: appended in order of arrival, once each."""

from collections.abc import Sequence
from datetime import datetime

from django.conf import settings
from django.db import transaction

from market.contracts import AccountFrame, Fence
from market.models import AccountEvent
from market.services import fencing
from tradingbot.core.announce import announce
from tradingbot.core.audit import canonical_json, sha256_hex


def record_account_events(*, events: Sequence[AccountFrame], fence: Fence | None = None) -> None:
    """Append `events`; one whose payload is already stored is left out. Raises LeaseLost."""
    rows = [
        AccountEvent(
            environment=settings.TRADING_ENVIRONMENT,
            event_type=event.event_type,
            event_time=event.event_time,
            received_at=event.received_at,
            payload=event.payload,
            sha256=sha256_hex(canonical_json(event.payload)),
        )
        for event in events
    ]
    if not rows:
        return
    with transaction.atomic():
        fencing.check(fence)
        AccountEvent.objects.bulk_create(rows, ignore_conflicts=True)
        announce("account_event", rows[-1].event_type)


def mark_account_events_folded(*, ids: Sequence[int], now: datetime) -> int:
    """Set `folded_at` where it is not set yet; how many rows that were. Called by execution as it folds."""
    rows = AccountEvent.objects.filter(
        environment=settings.TRADING_ENVIRONMENT, pk__in=ids, folded_at__isnull=True
    )
    return rows.update(folded_at=now)
