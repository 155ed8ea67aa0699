"""Leases: one holder at a time; a paused holder cannot write after the takeover."""

import pytest
from django.db import connection, transaction

from tests.proposals.races import race
from tradingbot.core import leases
from tradingbot.core.leases import LeaseLost

pytestmark = pytest.mark.django_db(transaction=True)


def lapse() -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE core_lease SET expires_at = clock_timestamp() - interval '1 second'")


def test_nobody_else_gets_a_lease_that_is_held() -> None:
    assert leases.acquire("streams", holder="a", seconds=60) == 1
    assert leases.acquire("streams", holder="b", seconds=60) is None


def test_a_renewal_keeps_the_fence() -> None:
    leases.acquire("streams", holder="a", seconds=60)

    assert leases.acquire("streams", holder="a", seconds=60) == 1


def test_a_lapsed_lease_is_taken_over_with_a_higher_fence() -> None:
    leases.acquire("streams", holder="a", seconds=60)
    lapse()

    assert leases.acquire("streams", holder="b", seconds=60) == 2


def test_a_released_lease_can_be_taken_at_once() -> None:
    leases.acquire("streams", holder="a", seconds=60)
    leases.release("streams", holder="a")

    assert leases.acquire("streams", holder="b", seconds=60) == 2


def test_only_the_holder_can_release() -> None:
    leases.acquire("streams", holder="a", seconds=60)
    leases.release("streams", holder="b")

    assert leases.acquire("streams", holder="b", seconds=60) is None


def test_the_holder_of_an_old_fence_may_not_write() -> None:
    fence = leases.acquire("streams", holder="a", seconds=60)
    assert fence is not None
    lapse()
    leases.acquire("streams", holder="b", seconds=60)

    with pytest.raises(LeaseLost, match="taken over"), transaction.atomic():
        leases.check_fence("streams", fence)


def test_a_holder_that_lapsed_and_was_not_replaced_may_still_write() -> None:
    fence = leases.acquire("streams", holder="a", seconds=60)
    assert fence is not None
    lapse()

    with transaction.atomic():
        leases.check_fence("streams", fence)


def test_of_many_that_ask_at_once_one_gets_it() -> None:
    outcomes = race([lambda n=n: leases.acquire("streams", holder=f"h{n}", seconds=60) for n in range(6)])

    assert sorted(outcomes, key=str) == [1, None, None, None, None, None]
