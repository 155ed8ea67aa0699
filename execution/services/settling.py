"""A person settles a divergence: adopt the exchange's record, ignore it with a reason, or cancel a foreign order."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from django.db import transaction

from execution import selectors
from execution.contracts import (
    AnswerRefused,
    Decision,
    DivergenceKind,
    ExchangeGateway,
    ExchangeRejected,
    FillReport,
    NotSent,
    OrderReport,
    Outcome,
    OutcomeUnknown,
    RequestKind,
)
from execution.models import Account, BalanceMovement, Divergence, OperatorRequest, Order, current_ledger
from execution.services.findings import close
from execution.services.reconciling import request_reconciliation
from execution.services.requesting import checked_reason, finish, open_request, refuse_while_asked
from execution.services.resetting import accept_reset
from market.models import Instrument
from tradingbot.core import audit
from tradingbot.core.announce import announce
from tradingbot.core.decimals import ZERO, plain

K = DivergenceKind
# What stays open until a person decides, by the words of the button. The rest is posted from the record at once.
ADOPTABLE: dict[str, str] = {
    K.BALANCE: "Book it as a movement from outside",
    K.FEE: "Correct the balances to the exchange's fee",
    K.ORDER_MISSING_THERE: "Take the order as ended",
    K.ENVIRONMENT_RESET: "Accept the reset: begin a new ledger",
}
ASKABLE: dict[str, tuple[RequestKind, ...]] = {
    K.FOREIGN_ORDER: (RequestKind.ADOPT_ORDER, RequestKind.CANCEL_ORDER)
}
NOT_IGNORABLE = frozenset({K.ENVIRONMENT_RESET})
ENDED = frozenset({"FILLED", "CANCELED", "REJECTED", "EXPIRED", "EXPIRED_IN_MATCH"})


def choices_of(divergence: Divergence) -> list[tuple[str, str]]:
    """What a person may decide on it now: (decision, words of the button); none once it is closed."""
    if divergence.closed_at is not None:
        return []
    found: list[tuple[str, str]] = []
    if divergence.kind in ADOPTABLE:
        found.append((Decision.ADOPT, ADOPTABLE[divergence.kind]))
    if divergence.kind == K.FOREIGN_ORDER:
        if divergence.theirs.get("status") in ENDED:
            found.append((RequestKind.ADOPT_ORDER, "Book its trades as movements from outside"))
        else:
            found.append((RequestKind.CANCEL_ORDER, "Cancel it on the exchange"))
    if divergence.kind not in NOT_IGNORABLE:
        found.append((Decision.IGNORE, "Ignore it"))
    return found


def settle_divergence(
    *, divergence_id: int, version: int, decision: Decision, reason: str, actor: str, now: datetime
) -> Divergence:
    """Close a divergence by a person's decision, and book what follows from it in the same transaction.

    Raises AnswerRefused: NO_REASON, ALREADY_DECIDED, STALE_PAGE, ALREADY_ASKED, NOT_POSSIBLE.
    """
    reason = checked_reason(reason)
    with transaction.atomic():
        divergence = _locked(divergence_id)
        _check_page(divergence, version)
        refuse_while_asked(divergence)
        if decision == Decision.IGNORE:
            if divergence.kind in NOT_IGNORABLE:
                raise AnswerRefused(
                    "NOT_POSSIBLE", "Nothing was done: a reset cannot be ignored, only accepted."
                )
            _settle(divergence, Outcome.IGNORED, reason, actor, now)
        elif divergence.kind == K.ENVIRONMENT_RESET:
            accept_reset(divergence=divergence, actor=actor, reason=reason, now=now)
            request_reconciliation(trigger="reset accepted", now=now)
        else:
            _adopt(divergence, now)
            _settle(divergence, Outcome.ADOPTED, reason, actor, now)
            request_reconciliation(trigger="divergence adopted", now=now)
    divergence.refresh_from_db()
    return divergence


def ask_settlement(
    *, divergence_id: int, version: int, kind: RequestKind, reason: str, actor: str, now: datetime
) -> OperatorRequest:
    """Take a decision that needs the exchange; a trading worker carries it out.

    Raises AnswerRefused: NO_REASON, ALREADY_DECIDED, STALE_PAGE, ALREADY_ASKED, NOT_POSSIBLE.
    """
    reason = checked_reason(reason)
    with transaction.atomic():
        divergence = _locked(divergence_id)
        _check_page(divergence, version)
        if kind not in ASKABLE.get(divergence.kind, ()):
            raise AnswerRefused("NOT_POSSIBLE", f"Nothing was done: that does not fit a {divergence.kind}.")
        if (divergence.theirs.get("status") in ENDED) == (kind == RequestKind.CANCEL_ORDER):
            raise AnswerRefused(
                "NOT_POSSIBLE",
                "Nothing was done: the order is over on the exchange, there is nothing to cancel."
                if kind == RequestKind.CANCEL_ORDER
                else "Nothing was done: the order is still open on the exchange. Cancel it first, or ignore it.",
            )
        return open_request(
            kind=kind, subject=divergence, seen_version=version, reason=reason, actor=actor, now=now
        )


# --- carried out by a trading worker --------------------------------------------------------------------


def adopt_order(request: OperatorRequest, exchange: ExchangeGateway, now: datetime) -> None:
    """Book the trades of a foreign order as movements from outside: the balances agree, the result is not ours."""
    divergence = _divergence_of(request)
    exchange_order_id = int(divergence.theirs["orderId"])
    if any(r.exchange_order_id == exchange_order_id for r in exchange.open_orders(symbol=divergence.symbol)):
        raise AnswerRefused(
            "STILL_OPEN", "Nothing was changed: the order is still open on the exchange. Cancel it first."
        )
    since = Account.objects.get(environment=selectors.ENVIRONMENT).baseline_at
    found = exchange.trades(symbol=divergence.symbol, from_trade_id=None, since=since)
    trades = [trade for order_id, trade in found if order_id == exchange_order_id]
    executed = sum((trade.quantity for trade in trades), ZERO)
    if plain(executed) != divergence.theirs["executed"]:
        raise AnswerRefused(
            "TRADES_DIFFER",
            f"Nothing was changed: the exchange tells {plain(executed)} in trades and "
            f"{divergence.theirs['executed']} executed. Compare again, then decide.",
        )
    with transaction.atomic():
        locked = _locked(divergence.pk)
        _check_page(locked, request.seen_version)
        _book_foreign_trades(locked, trades, now)
        _settle(locked, Outcome.ADOPTED, request.reason, request.actor, now)
        request_reconciliation(trigger="divergence adopted", now=now)
        sentence = f"Adopted: {len(trades)} trades booked as movements from outside."
        finish(request, succeeded=True, detail=sentence, now=now)


def cancel_order(request: OperatorRequest, exchange: ExchangeGateway, now: datetime) -> None:
    """Cancel a foreign order, sent once; what came of it is also shown by the next comparison."""
    divergence = _divergence_of(request)
    _check_page(divergence, request.seen_version)
    try:
        report = exchange.cancel_foreign_order(
            symbol=divergence.symbol, exchange_order_id=int(divergence.theirs["orderId"])
        )
    except NotSent as error:
        sentence = f"Never sent: {error}. The order is as it was; ask again."
        finish(request, succeeded=False, detail=sentence, now=now)
    except ExchangeRejected as error:
        _finish_and_compare(request, f"The exchange refused to cancel it: {error}.", now)
    except OutcomeUnknown as error:
        sentence = f"Whether it was cancelled is not known ({error}). It is not sent again by itself."
        _finish_and_compare(request, f"{sentence} The next comparison shows.", now)
    else:
        _record_cancel(request, report, now)


def _finish_and_compare(request: OperatorRequest, sentence: str, now: datetime) -> None:
    with transaction.atomic():
        finish(request, succeeded=False, detail=sentence, now=now)
        request_reconciliation(trigger="cancel", now=now)


def _record_cancel(request: OperatorRequest, report: OrderReport, now: datetime) -> None:
    with transaction.atomic():
        divergence = _locked(_divergence_of(request).pk)
        executed = plain(report.executed_quantity)
        sentence = f"Cancelled on the exchange, executed {executed} before."
        if report.executed_quantity == 0 and divergence.closed_at is None:
            _settle(divergence, Outcome.CANCELLED, request.reason, request.actor, now)
        else:
            sentence += " What it executed is still to be adopted or ignored."
            Divergence.objects.filter(pk=divergence.pk).update(
                theirs={**divergence.theirs, "status": report.status.value, "executed": executed},
                amount=report.executed_quantity,
                version=divergence.version + 1,
            )
        audit.record(
            action="exchange.answered",
            subject=f"divergence:{divergence.pk}",
            actor="exchange",
            now=now,
            response_sha256=audit.sha256_hex(audit.canonical_json(report.raw)),
        )
        finish(request, succeeded=True, detail=sentence, now=now)
        request_reconciliation(trigger="cancel", now=now)


# --- the parts ------------------------------------------------------------------------------------------


def _locked(divergence_id: int) -> Divergence:
    return Divergence.objects.select_for_update().get(environment=selectors.ENVIRONMENT, pk=divergence_id)


def _divergence_of(request: OperatorRequest) -> Divergence:
    if request.divergence is None:
        raise RuntimeError(f"operator request {request.pk} is about no divergence")
    return request.divergence


def _check_page(divergence: Divergence, version: int) -> None:
    if divergence.closed_at is not None:
        raise AnswerRefused(
            "ALREADY_DECIDED",
            f"Nothing was done: {divergence.outcome or 'closed'} by {divergence.closed_by} at "
            f"{divergence.closed_at:%H:%M:%S} UTC: {divergence.resolution}.",
        )
    if divergence.version != version:
        raise AnswerRefused(
            "STALE_PAGE", "Nothing was done: the records changed since the page was shown. Read them again."
        )


def _settle(divergence: Divergence, outcome: Outcome, reason: str, actor: str, now: datetime) -> None:
    close(divergence, outcome=outcome, resolution=reason, actor=actor, now=now)
    audit.record(
        action=f"divergence.{outcome.value}",
        subject=f"divergence:{divergence.pk}",
        actor=actor,
        now=now,
        reason=reason,
        theirs=divergence.theirs,
    )


def _adopt(divergence: Divergence, now: datetime) -> None:
    if divergence.kind == K.BALANCE and divergence.amount:
        _move(divergence.amount_asset, divergence.amount, f"divergence:{divergence.pk}", now)
    elif divergence.kind == K.FEE:
        _correct_fee(divergence, now)
    elif divergence.kind == K.ORDER_MISSING_THERE:
        _end_lost_order(divergence, now)
    else:
        raise AnswerRefused(
            "NOT_POSSIBLE",
            f"Nothing was done: a {divergence.kind} cannot be adopted. Ignore it with a reason.",
        )


def _correct_fee(divergence: Divergence, now: datetime) -> None:
    ours, theirs = divergence.ours, divergence.theirs
    if (ours["price"], ours["quantity"]) != (theirs["price"], theirs["quantity"]):
        raise AnswerRefused(
            "NOT_POSSIBLE",
            "Nothing was done: price or quantity differ too, which no correction of a fee explains. Halt and look.",
        )
    key = f"divergence:{divergence.pk}"
    _move(ours["commissionAsset"], Decimal(ours["commission"]), f"{key}:ours", now)
    _move(theirs["commissionAsset"], -Decimal(theirs["commission"]), f"{key}:theirs", now)


def _end_lost_order(divergence: Divergence, now: datetime) -> None:
    order = Order.objects.select_for_update().get(
        environment=selectors.ENVIRONMENT, client_order_id=divergence.subject.removeprefix("order:")
    )
    Order.objects.filter(pk=order.pk).update(
        closed_at=now,
        reserved_quote=ZERO,
        reserved_base=ZERO,
        reason="the exchange does not know it any more",
    )
    announce(Order.TOPIC, order.pk)


def _book_foreign_trades(divergence: Divergence, trades: Sequence[FillReport], now: datetime) -> None:
    instrument = Instrument.objects.get(environment=selectors.ENVIRONMENT, symbol=divergence.symbol)
    sign = 1 if divergence.theirs["side"] == "BUY" else -1
    for trade in trades:
        key = f"trade:{current_ledger()}:{divergence.symbol}:{trade.trade_id}"
        _move(instrument.base_asset, sign * trade.quantity, f"{key}:b", now)
        _move(instrument.quote_asset, -sign * trade.quote_quantity, f"{key}:q", now)
        if trade.commission:
            _move(trade.commission_asset, -trade.commission, f"{key}:c", now)


def _move(asset: str, amount: Decimal, event_key: str, now: datetime) -> None:
    BalanceMovement.objects.get_or_create(
        environment=selectors.ENVIRONMENT,
        event_key=event_key,
        defaults={"asset": asset, "amount": amount, "at": now},
    )
