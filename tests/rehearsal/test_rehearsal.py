"""The rehearsal passes on the product as it is, repeats itself, and catches each planted bug."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from execution import rules
from execution.contracts import OutcomeUnknown
from execution.rules import accounting
from execution.services import claiming, protecting, saga, watching
from tradingbot.core.decimals import ZERO
from tradingbot.operations.management.commands.rehearse import clone_for, scratch_database
from tradingbot.operations.rehearsal import exchange as rehearsed
from tradingbot.operations.rehearsal.world import InvariantBroken, Report, World

pytestmark = pytest.mark.timeout(900)  # a busy machine is no defect
DAYS = 0.25
SEEDS_TO_DETECT_MAX = 4


@pytest.fixture(scope="module")
def scratch(django_db_blocker: Any) -> Iterator[None]:
    with django_db_blocker.unblock(), scratch_database():
        yield


def rehearse(seed: int, days: float = DAYS) -> Report:
    world = World(seed=seed, days=days, intensity=1.0, replay=None, until=10**9)
    with clone_for(seed):
        return world.run()


def test_days_with_faults_and_crashes_lose_and_double_nothing(scratch: None) -> None:
    report = rehearse(1, days=0.5)

    assert (report.duplicates, report.lost, report.unexplained, report.manual_reviews) == (0, 0, 0, 0)
    assert report.orders > 0
    assert report.crashes > 0


def test_same_seed_repeats_exactly(scratch: None) -> None:
    first, second = rehearse(2), rehearse(2)

    assert first == second


def resend_on_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    place = rehearsed.RehearsedExchange.place_order

    def place_again(self: Any, request: Any) -> Any:
        try:
            return place(self, request)
        except OutcomeUnknown:
            return place(self, request)

    monkeypatch.setattr(rehearsed.RehearsedExchange, "place_order", place_again)


def not_found_is_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "may_conclude_absent", lambda **_: True)
    monkeypatch.setattr(saga, "_scan", lambda *_: "")
    monkeypatch.setattr(rehearsed, "LAG_CHANCE", 0.8)
    monkeypatch.setattr(rehearsed, "PLACE_FAULTS", ("lost_after",))


def fill_applied_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    once = accounting.replay
    monkeypatch.setattr(
        accounting,
        "replay",
        lambda lots, trades: once(lots, [replace(trade, quantity=2 * trade.quantity) for trade in trades]),
    )


def fee_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    charged = accounting.replay
    monkeypatch.setattr(
        accounting,
        "replay",
        lambda lots, trades: charged(lots, [replace(trade, commission_base=ZERO) for trade in trades]),
    )


def failed_query_is_absence(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order queries are down, and the adapter says "not there" instead of "no answer"."""
    monkeypatch.setattr(rehearsed.RehearsedExchange, "find_order", lambda *_, **__: None)
    monkeypatch.setattr(rehearsed.RehearsedExchange, "orders_since", lambda *_, **__: [])
    monkeypatch.setattr(saga, "_balance_finding", lambda *_: "")
    monkeypatch.setattr(rehearsed, "EVENT_FAULTS", ("dropped",))
    monkeypatch.setattr(rehearsed, "EVENT_CHANCE", 1.0)
    monkeypatch.setattr(rehearsed, "PLACE_FAULTS", ("lost_after",))


def reservation_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    create = claiming._create_order

    def without(*arguments: Any) -> Any:
        order = create(*arguments)
        order.reserved_quote = order.reserved_base = ZERO
        order.save(update_fields=["reserved_quote", "reserved_base"])
        return order

    monkeypatch.setattr(claiming, "_create_order", without)


def bare_position_unnoticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held without a stop is neither protected nor alarmed."""
    monkeypatch.setattr(protecting, "_protect", lambda *_: False)
    monkeypatch.setattr(watching, "_alert_when_long", lambda *_: None)


BUGS = [
    bare_position_unnoticed,
    resend_on_timeout,
    not_found_is_proof,
    fill_applied_twice,
    fee_ignored,
    failed_query_is_absence,
    reservation_skipped,
]


@pytest.mark.parametrize("plant", BUGS, ids=lambda plant: plant.__name__)
def test_planted_bug_is_caught(
    plant: Callable[..., None], scratch: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)

    for seed in range(1, SEEDS_TO_DETECT_MAX + 1):
        try:
            rehearse(seed)
        except InvariantBroken:
            return
    pytest.fail(f"{plant.__name__} was not caught within {SEEDS_TO_DETECT_MAX} seeds")
