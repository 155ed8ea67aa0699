"""One worker compares at a time; one that dies in the middle does not hold the others up for long."""

from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings

from execution import services
from execution.models import ReconciliationRun
from tests.desk import Desk
from tradingbot.core import clock, leases
from tradingbot.core.models import Lease

pytestmark = pytest.mark.django_db
NAME = "reconcile:simulator"


class Interrupted(Exception):
    """Stands for the death of the worker."""


class WatchedExchange:
    """The exchange, with something that happens before the balances are asked for."""

    def __init__(self, happens: Any) -> None:
        self._exchange, self._happens = services.gateway(), happens

    def __getattr__(self, name: str) -> Any:
        if name == "balances":
            self._happens()
        return getattr(self._exchange, name)


def compare(exchange: Any, holder: str = "worker") -> ReconciliationRun | None:
    return services.reconcile(
        exchange=exchange, trigger="test", holder=holder, now=clock.now(), wait=lambda _: None
    )


def test_lease_of_a_comparison_outlasts_one_slow_answer_and_not_much_more(desk: Desk) -> None:
    seconds_left: list[float] = []

    def look() -> None:
        lease = Lease.objects.get(pk=NAME)
        seconds_left.append((lease.expires_at - clock.now()) / timedelta(seconds=1))

    run = compare(WatchedExchange(look))

    assert run is not None and run.status == "clean"
    assert settings.EXCHANGE_TIMEOUT_SECONDS < seconds_left[0] <= settings.EXCHANGE_TIMEOUT_SECONDS + 15


def test_comparison_that_lost_its_lease_concludes_nothing(desk: Desk) -> None:
    def lose() -> None:
        Lease.objects.filter(pk=NAME).update(expires_at=clock.now() - timedelta(seconds=1))
        assert leases.acquire(NAME, holder="another", seconds=60)
        desk.exchange.post("/sim/deposit", {"apiKey": desk.exchange.api_key, "asset": "USDT", "amount": "5"})

    # The deposit is a difference, so the balances are asked for again, which renews the lease first.
    run = compare(WatchedExchange(lose))

    assert run is not None and run.status == "degraded"
    assert "another worker" in run.note


def test_run_that_its_worker_left_behind_is_closed_by_the_next(desk: Desk) -> None:
    def die() -> None:
        raise Interrupted

    with pytest.raises(Interrupted):
        compare(WatchedExchange(die), holder="dead")
    left = ReconciliationRun.objects.get(status="running")

    run = compare(services.gateway())

    left.refresh_from_db()
    assert run is not None and run.status == "clean"
    assert left.status == "degraded"
