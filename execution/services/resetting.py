"""The reset of an environment: the testnet forgets all orders, trades and balances about once a month.

It is one divergence of its own kind. A person accepts it; then the ledger begins again from a new baseline,
and all that was before is kept under the number of its ledger (the exchange's ids begin again as well).
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from execution import selectors
from execution.contracts import (
    REVIEWABLE,
    Balance,
    DivergenceKind,
    ExchangeGateway,
    OrderStatus,
    Outcome,
)
from execution.models import Account, Divergence, Fill, Lot, Order, Position
from execution.services.findings import Finding, close
from execution.services.saga import conclude_absent
from tradingbot.core import audit
from tradingbot.core.announce import announce
from tradingbot.core.decimals import ZERO, plain

SUBJECT = "environment"
WITNESSES_MAX = 3
ASSETS_MIN = 3
# A younger order may be missing from answers because these lag (`GET order` reads a memory and a database).
WITNESS_AGE_MIN = timedelta(minutes=2)


def find_reset(
    *,
    exchange: ExchangeGateway,
    absent_client_ids: set[str],
    balances: Sequence[Balance],
    keep: Callable[[], None],
    now: datetime,
) -> Finding | None:
    """Whether the exchange forgot us: it knows none of our last orders, nor any trade of theirs.

    Asked only when there is a reason to: a confirmed order is not there any more, or the balances are not
    what they should be. An account on which nothing was ordered yet is judged by its balances alone. Raises
    QueryFailed, on which nothing is concluded.
    """
    witnesses = list(
        Order.objects.filter(
            selectors.this_ledger(),
            status=OrderStatus.CONFIRMED,
            acknowledged_at__lt=now - WITNESS_AGE_MIN,
        ).order_by("-acknowledged_at")[:WITNESSES_MAX]
    )
    differing = _differing(balances)
    if not Order.objects.filter(selectors.this_ledger(), status=OrderStatus.CONFIRMED).exists():
        return _finding_by_balances(differing, balances)
    if not witnesses or not (absent_client_ids or differing):
        return None
    for order in witnesses:
        keep()
        if exchange.find_order(symbol=order.symbol, client_order_id=order.client_order_id) is not None:
            return None
        if _has_trade(exchange, order):
            return None
    return _finding(witnesses)


def _differing(balances: Sequence[Balance]) -> set[str]:
    """Assets whose total is not what it should be; none before the first baseline."""
    account = Account.objects.filter(environment=selectors.ENVIRONMENT).first()
    if account is None or account.baseline_at is None:
        return set()
    theirs = {balance.asset: balance.total for balance in balances}
    expected = selectors.expected_balances()
    assets = theirs.keys() | expected.keys()
    return {asset for asset in assets if theirs.get(asset, ZERO) != expected.get(asset, ZERO)}


def _finding_by_balances(differing: set[str], balances: Sequence[Balance]) -> Finding | None:
    """Without an order of ours to ask for: most balances changed at once, of an account that holds several."""
    held = {balance.asset for balance in balances} | differing
    if len(differing) < ASSETS_MIN or 2 * len(differing) <= len(held):
        return None
    found = _finding([])
    found.theirs = {"answer": f"{len(differing)} of {len(held)} balances changed at once"}
    return found


def _has_trade(exchange: ExchangeGateway, order: Order) -> bool:
    """Whether the exchange still tells a trade that is booked on `order`, with the amounts that it had."""
    booked = Fill.objects.filter(order=order).order_by("trade_id").first()
    if booked is None:
        return False
    told = exchange.trades(symbol=order.symbol, from_trade_id=booked.trade_id, since=None)
    return any(
        (order_id, trade.trade_id, trade.at) == (booked.exchange_order_id, booked.trade_id, booked.at)
        for order_id, trade in told[:1]
    )


def _finding(witnesses: list[Order]) -> Finding:
    account = Account.objects.get(environment=selectors.ENVIRONMENT)
    orders = Order.objects.filter(selectors.this_ledger())
    return Finding(
        kind=DivergenceKind.ENVIRONMENT_RESET,
        subject=SUBJECT,
        symbol="",
        ours={
            "ledger": account.ledger,
            "ledger since": f"{account.baseline_at:%Y-%m-%d %H:%M:%S} UTC",
            "orders": orders.count(),
            "fills": Fill.objects.filter(environment=selectors.ENVIRONMENT, ledger=account.ledger).count(),
            "asked for": ", ".join(order.client_order_id for order in witnesses),
        },
        theirs={"answer": "-2013 Order does not exist", "for": f"each of our last {len(witnesses)} orders"},
        likely_cause="The exchange wiped this environment: orders, trades and balances are gone, keys stay "
        "(Binance does so on the testnet about once a month).",
    )


def accept_reset(*, divergence: Divergence, actor: str, reason: str, now: datetime) -> None:
    """Begin a new ledger; the caller holds the transaction and the lock of the divergence.

    The next run takes the new baseline. Orders of unknown fate end as not placed: whatever became of them is
    gone. Positions are closed without a result, since nothing was sold.
    """
    account = Account.objects.select_for_update().get(environment=selectors.ENVIRONMENT)
    lost = _forget_positions(now)
    _end_orders(actor, now)
    for other in Divergence.objects.filter(environment=selectors.ENVIRONMENT, closed_at=None):
        sentence = reason if other.pk == divergence.pk else f"the environment was reset: {reason}"
        close(other, outcome=Outcome.RESET, resolution=sentence, actor=actor, now=now)
    audit.record(
        action="account.reset_accepted",
        subject=f"account:{selectors.ENVIRONMENT}",
        actor=actor,
        now=now,
        reason=reason,
        ledger=account.ledger + 1,
        baseline_before=account.baseline,
        positions_lost=lost,
    )
    account.ledger += 1
    account.baseline, account.baseline_at, account.equity_peak_quote = {}, None, None
    account.save(update_fields=["ledger", "baseline", "baseline_at", "equity_peak_quote"])
    announce("balance", "")


def _forget_positions(now: datetime) -> dict[str, Any]:
    held = Position.objects.select_for_update().filter(environment=selectors.ENVIRONMENT, quantity__gt=0)
    lost = {p.symbol: {"quantity": plain(p.quantity), "cost_quote": plain(p.cost_quote)} for p in held}
    held.update(
        quantity=ZERO, cost_quote=ZERO, stop_price=None, target_price=None, opened_at=None, updated_at=now
    )
    Lot.objects.filter(environment=selectors.ENVIRONMENT, quantity_left__gt=0).update(
        quantity_left=ZERO, cost_left_quote=ZERO
    )
    for symbol in lost:
        announce("position", symbol)
    return lost


def _end_orders(actor: str, now: datetime) -> None:
    """What was open is not any more; nothing stays reserved for it."""
    live = Order.objects.filter(selectors.live_orders(), sent_at__isnull=False)
    for order in live.select_for_update().order_by("pk"):
        if order.status in REVIEWABLE:
            conclude_absent(order=order, now=now, actor=actor, reason="its environment was reset")
        elif order.status == OrderStatus.CONFIRMED:
            Order.objects.filter(pk=order.pk).update(
                closed_at=now, reserved_quote=ZERO, reserved_base=ZERO, reason="its environment was reset"
            )
            announce(Order.TOPIC, order.pk)
