"""Account events that execution has still to fold into its orders."""

from django.conf import settings

from market.models import AccountEvent


def unfolded_account_events(limit: int) -> list[AccountEvent]:
    """At most `limit` events not yet folded, oldest first (the order of arrival)."""
    rows = AccountEvent.objects.filter(environment=settings.TRADING_ENVIRONMENT, folded_at=None)
    return list(rows.order_by("id")[:limit])
