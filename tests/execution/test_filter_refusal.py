"""An order refused with -1013: our copy of the filters is old, so it is read anew."""

import pytest
from django.conf import settings

from execution.services import sending
from tests.desk import Desk


def refuse_the_next_order(desk: Desk, code: int) -> None:
    desk.exchange.arm(
        kind="status", method="POST", path="/api/v3/order", status=400, code=code,
        msg="Filter failure: LOT_SIZE", phase="before", count=1,
    )  # fmt: skip


@pytest.mark.parametrize(("code", "expected"), [(-1013, [("filter_refused", "BTCUSDT")]), (-2010, [])])
def test_a_refusal_by_a_filter_asks_for_the_filters(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, code: int, expected: list[tuple[str, str]]
) -> None:
    heard: list[tuple[str, str]] = []
    monkeypatch.setattr(sending, "announce", lambda topic, row_id: heard.append((topic, str(row_id))))
    refuse_the_next_order(desk, code)

    desk.buy()

    assert heard == expected


def test_the_announcement_rings_the_task_that_reads_them() -> None:
    assert settings.NUDGES["filter_refused"] == ("market.tasks.refresh_instruments",)
