"""Stopping and starting again: everything ends in time, and the books go on where they were."""

import pytest

from tests.stack.running import STOP_SECONDS_MAX, RunningStack, wait_for

pytestmark = [pytest.mark.stack, pytest.mark.timeout(200)]
BOOKS = (
    "SELECT client_order_id, status, exchange_status, executed_quantity FROM execution_order "
    "WHERE closed_at IS NOT NULL AND closed_at < %s ORDER BY 1"
)


@pytest.fixture(scope="module")
def before(stack: RunningStack) -> dict[str, object]:
    """What was there before the stop; afterwards the product runs again."""
    wait_for(lambda: stack.value("SELECT count(*) FROM execution_reconciliationrun"), "a first comparison")
    now = stack.value("SELECT now()")
    seen = {
        "now": now,
        "books": stack.rows(BOOKS, now),
        "there": {order["clientOrderId"] for order in stack.orders_there()},
        "run": stack.value("SELECT max(id) FROM execution_reconciliationrun"),
        "password": stack.password,
    }
    seen["stop_seconds"] = stack.stop()
    stack.start()
    return seen


def test_sigterm_ends_everything_in_time(before: dict[str, object]) -> None:
    assert before["stop_seconds"] <= STOP_SECONDS_MAX  # type: ignore[operator]


def test_second_start_has_the_same_orders_on_both_sides(
    stack: RunningStack, before: dict[str, object]
) -> None:
    assert stack.password == before["password"]
    assert stack.rows(BOOKS, before["now"]) == before["books"]
    assert before["there"] <= {order["clientOrderId"] for order in stack.orders_there()}  # type: ignore[operator]


def test_second_start_reconciles_without_a_divergence(stack: RunningStack, before: dict[str, object]) -> None:
    status = wait_for(
        lambda: stack.value(
            "SELECT status FROM execution_reconciliationrun WHERE id > %s AND status <> 'running'",
            before["run"],
        ),
        "a comparison after the start",
    )

    assert status == "clean"
    assert stack.value("SELECT count(*) FROM execution_divergence WHERE closed_at IS NULL") == 0


def test_second_start_proposes_on(stack: RunningStack, before: dict[str, object]) -> None:
    wait_for(
        lambda: stack.value("SELECT count(*) FROM proposals_proposal WHERE created_at > %s", before["now"]),
        "a proposal after the start",
        60,
    )
