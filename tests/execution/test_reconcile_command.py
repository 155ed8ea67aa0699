"""`manage.py reconcile`: what it prints, and its exit code."""

import io

import pytest
from django.core.management import CommandError, call_command

from tests.desk import Desk
from tradingbot.core import leases

pytestmark = pytest.mark.django_db


def reconcile(*arguments: str) -> str:
    out = io.StringIO()
    call_command("reconcile", *arguments, stdout=out)
    return out.getvalue()


def deposit(desk: Desk) -> None:
    desk.exchange.post("/sim/deposit", {"apiKey": desk.exchange.api_key, "asset": "USDT", "amount": "5"})


def test_books_that_agree_are_reported_with_the_figures(desk: Desk) -> None:
    text = reconcile()

    assert ": clean, 0 orders, 0 fills and 1 balances compared" in text
    assert "reconciliation_divergences=0 open=0 posted=0 runs=2 degraded=0 agreed_hours=0.0 of 48" in text


def test_open_divergence_is_printed_with_both_records_and_fails_the_command(desk: Desk) -> None:
    deposit(desk)
    out = io.StringIO()

    with pytest.raises(CommandError, match="1 open") as failure:
        call_command("reconcile", stdout=out)

    assert failure.value.returncode == 1
    for part in ("balance:USDT, 5 USDT", "total: 10005", "expected: 10000", "what to do:"):
        assert part in out.getvalue()


def test_file_is_printed_on_demand(desk: Desk) -> None:
    deposit(desk)
    out = io.StringIO()

    with pytest.raises(CommandError):
        call_command("reconcile", "--csv", stdout=out)

    assert out.getvalue().splitlines()[0].startswith("id,kind,symbol,about")


def test_comparison_that_could_not_be_made_fails_the_command(desk: Desk) -> None:
    desk.exchange.arm(
        kind="status", method="GET", path="/api/v3/openOrders", status=503, phase="before", count=1
    )

    with pytest.raises(CommandError, match="degraded, nothing was concluded"):
        reconcile()


def test_command_waits_for_the_worker_that_is_comparing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    from execution.management.commands import reconcile as command

    assert leases.acquire("reconcile:simulator", holder="another", seconds=60)
    monkeypatch.setattr(
        command.time, "sleep", lambda _: leases.release("reconcile:simulator", holder="another")
    )

    assert ": clean" in reconcile()
