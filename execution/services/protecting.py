"""Protection of what is held: found wanting, repaired on the exchange, alarmed when it cannot be.

Whatever the reason is that something is held without a stop (a MARKET entry, a partly filled one, legs that
were rejected, expired or cancelled), the answer is one: protect what is held and not covered, as an intent of
its own that is sent once. Nothing is protected twice: while the fate of a leg is open, nothing new is sent.
The approval of the purchase is what all of this acts on; the switch does not stop it (invariant 3).
"""

from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from django.conf import settings
from django.db import transaction

from execution import selectors
from execution.contracts import (
    ExchangeGateway,
    ExchangeStatus,
    IntentKind,
    OrderStatus,
    Plan,
    QueryFailed,
    RequestKind,
    Role,
    Unprotectable,
)
from execution.models import Account, ExecutionIntent, OperatorRequest, Order, Position
from execution.rules import client_order_id, lists
from execution.selectors import protection
from execution.services.cancelling import cancel_intent, read_orders, resolve_cancels
from execution.services.claiming import create_intent, create_orders, would_be_refused
from execution.services.folding import store_balances
from execution.services.reconciling import request_reconciliation
from execution.services.sending import send_order
from execution.services.watching import watch_position
from market import selectors as market
from market.contracts import Quote
from proposals import selectors as proposals
from proposals.contracts import Side
from proposals.models import Proposal
from tradingbot.core import audit
from tradingbot.core.alerts import raise_alert, resolve_alerts
from tradingbot.core.clock import now as clock_now
from tradingbot.core.clock import to_milliseconds
from tradingbot.core.decimals import ZERO, ceil_to_step, floor_to_step, plain

# An entry that is filled in part and rests: its legs wait until it is filled wholly, so it is cut short.
PARTIAL_ENTRY_GRACE = timedelta(seconds=10)
# A target that fills in part has lost its stop; it mostly fills wholly at once.
STOPLESS_GRACE = timedelta(seconds=10)
# A stop whose limit the price has left behind: it may come back, but not for long is it waited for.
RUN_OVER_GRACE = timedelta(seconds=5)
# Attempts that came to nothing within the window; after the last, the next one waits until one is forgotten.
ATTEMPTS_WINDOW = timedelta(minutes=10)
ATTEMPT_SECONDS = (0, 2, 5, 15, 30, 60)
QUOTE_AGE_MAX = timedelta(seconds=10)
FAILED = (OrderStatus.REJECTED, OrderStatus.NOT_PLACED, OrderStatus.ABORTED)
EXIT_WAITS_FOR = timedelta(seconds=60)
COMPARED_LATELY = timedelta(seconds=5)


def guard_positions(*, exchange: ExchangeGateway, now: datetime) -> int:
    """Look after everything that is held: read, cancel, repair or alarm; how many protections were sent."""
    resolve_cancels(exchange=exchange, now=now)
    symbols = set(
        Position.objects.filter(environment=selectors.ENVIRONMENT, quantity__gt=0).values_list(
            "symbol", flat=True
        )
    ) | set(
        Order.objects.filter(selectors.live_orders(), role__in=[Role.STOP, Role.TARGET]).values_list(
            "symbol", flat=True
        )
    )
    return sum(_guard(symbol, exchange, now) for symbol in sorted(symbols))


def _guard(symbol: str, exchange: ExchangeGateway, now: datetime) -> bool:
    guards = protection.guards(symbol)
    waiting = [guard for guard in guards if guard.wants_reading]
    for guard in waiting:
        read_orders(intent=guard.intent, exchange=exchange, now=now)
    cover = watch_position(symbol=symbol, now=now)
    if protection.unbooked_orders(symbol, now):
        _ask_for_comparison("trades to be booked", now)
    if cover is None or waiting or not settings.PROTECT_ON_EXCHANGE:
        return False
    if _cancel_what_hinders(symbol, cover, guards, exchange, now):
        return False
    if cover.exposed == 0:
        resolve_alerts(dedupe_key=f"protection_failed:position:{symbol}", now=now)
        return False
    return _protect(symbol, now)


def _cancel_what_hinders(
    symbol: str,
    cover: protection.Cover,
    guards: list[protection.Guard],
    exchange: ExchangeGateway,
    now: datetime,
) -> bool:
    """Cancel what must go before anything else can be done; whether there was something."""
    for guard in guards:
        why = _hindrance(guard, cover, now)
        if why:
            cancel_intent(intent=guard.intent, exchange=exchange, why=why, actor="protection", now=now)
            return True
    live = [guard for guard in guards if guard.is_live]
    if live and cover.covered > _held_at_most(symbol) and _books_are_settled(symbol, live, now):
        newest = live[-1].intent
        cancel_intent(intent=newest, exchange=exchange, why="more than is held", actor="protection", now=now)
        return True
    return False


def _hindrance(guard: protection.Guard, cover: protection.Cover, now: datetime) -> str:
    if guard.is_run_over:
        return "a stop whose limit the price ran over" if _is_past_saving(guard, now) else ""
    if guard.is_stopless and guard.target is not None:
        lost = guard.stop.closed_at if guard.stop and guard.stop.closed_at else guard.intent.created_at
        return "a target without its stop" if now - lost >= STOPLESS_GRACE else ""
    working = guard.working
    if (
        cover.exposed > 0
        and guard.is_pending
        and working is not None
        and working.exchange_status == ExchangeStatus.PARTIALLY_FILLED
        and now - _first_fill_at(working) >= PARTIAL_ENTRY_GRACE
    ):
        return "an entry filled in part, whose legs wait"
    return ""


def _is_past_saving(guard: protection.Guard, now: datetime) -> bool:
    """Whether it has covered nothing for a while, by a price of now: then it makes way for a sale at market."""
    quote = _fresh_quote(guard.intent.symbol, now)
    position = Position.objects.filter(environment=selectors.ENVIRONMENT, symbol=guard.intent.symbol).first()
    since = position.unprotected_since if position else None
    return quote is not None and since is not None and now - since >= RUN_OVER_GRACE


def _first_fill_at(order: Order) -> datetime:
    first = order.fills.order_by("at").values_list("recorded_at", flat=True).first()
    return first or order.acknowledged_at or order.created_at


def _held_at_most(symbol: str) -> Decimal:
    position = Position.objects.filter(environment=selectors.ENVIRONMENT, symbol=symbol).first()
    return position.quantity if position else ZERO


def _books_are_settled(symbol: str, live: list[protection.Guard], now: datetime) -> bool:
    """Whether a reconciliation has agreed since the youngest stop stood: else a fill may not be told yet."""
    if protection.unbooked_orders(symbol, now):
        return False  # `_guard` has asked for a comparison
    run = selectors.last_completed_run()
    stood = max(guard.stop.live_at or guard.intent.created_at for guard in live if guard.stop)
    settled = run is not None and run.status != "degraded" and run.started_at > stood
    if not settled:
        _ask_for_comparison("cover above position", now)
    return settled


def _ask_for_comparison(trigger: str, now: datetime) -> None:
    """Ask for a reconciliation, unless one is asked for already or has only just begun."""
    run = selectors.last_completed_run()
    if selectors.reconciliation_is_due() is None and (run is None or now - run.started_at > COMPARED_LATELY):
        request_reconciliation(trigger=trigger, now=now)


# --- protecting -----------------------------------------------------------------------------------------


def _protect(symbol: str, now: datetime) -> bool:
    """Send one protection for what is exposed, if nothing speaks against it now; whether it was sent."""
    if not _attempt_is_due(symbol, now):
        return False
    try:
        order = create_protection(symbol=symbol, now=now)
    except Unprotectable as error:
        _alarm(symbol, str(error), now)
        return False
    if order is None:
        return False
    send_order(order_id=order.pk, now=now)
    watch_position(symbol=symbol, now=clock_now())
    return True


def create_protection(*, symbol: str, now: datetime) -> Order | None:
    """Commit the intent that protects what is exposed; None when nothing is, or its turn has not come.

    Everything is looked at again under the account's row lock, so that two workers make one. Raises
    Unprotectable when it cannot be protected as it is.
    """
    with transaction.atomic():
        account, _ = Account.objects.select_for_update().get_or_create(environment=selectors.ENVIRONMENT)
        position = Position.objects.filter(environment=selectors.ENVIRONMENT, symbol=symbol).first()
        if position is None:
            return None
        guards = protection.guards(symbol)
        exposed = protection.cover(position, guards).exposed
        if exposed == 0 or _must_wait(symbol, guards, now):
            return None
        entry = protection.latest_entry(symbol)
        if entry is None:
            raise Unprotectable(f"no purchase of {symbol} is on record whose stop could be used")
        plan = _plan(position, entry, exposed, now)
        stop, target = position.stop_price, position.target_price
        intent = create_intent(
            kind=IntentKind.PROTECTION,
            proposal=entry.proposal,
            plan=plan,
            side="SELL",
            time_in_force="",
            stop_price=next((leg.trigger_price for leg in plan.legs if leg.role == Role.STOP), stop),
            target_price=next((leg.price for leg in plan.legs if leg.role == Role.TARGET), target),
            control_version=0,
            timestamp_ms=to_milliseconds(now) + (account.clock_offset_ms or 0),
            recv_window_ms=settings.RECV_WINDOW_MS,
            now=now,
        )
        order = create_orders(intent, plan)[0]
        audit.record(
            action="order.intent",
            subject=f"order:{order.pk}",
            actor="protection",
            now=now,
            proposal=str(entry.proposal_id),
            client_order_id=intent.client_order_id,
            request_digest=intent.request_digest,
            protects=plain(exposed),
        )
    return order


def _must_wait(symbol: str, guards: list[protection.Guard], now: datetime) -> bool:
    """Whether something is under way that may cover, sell or still change what is exposed."""
    return (
        any(guard.holds_coins and not guard.is_live for guard in guards)
        or any(guard.is_pending and guard.working_has_filled for guard in guards)
        or bool(protection.exits_under_way(symbol))
        or bool(protection.unbooked_orders(symbol, now))
        or _exit_is_coming(symbol, now)
    )


def _exit_is_coming(symbol: str, now: datetime) -> bool:
    """Whether an approved exit is about to be claimed, or an operator's close is being carried out.

    One that does not come about is not waited for long.
    """
    closing = OperatorRequest.objects.filter(
        kind=RequestKind.CLOSE_POSITION, done_at=None, order__symbol=symbol, asked_at__gt=now - EXIT_WAITS_FOR
    )
    return closing.exists() or any(
        proposal.side == Side.SELL
        and proposal.symbol == symbol
        and now - (proposal.decided_at or proposal.validated_at or proposal.created_at) < EXIT_WAITS_FOR
        for proposal in Proposal.objects.filter(pk__in=proposals.approved_unclaimed(100, now))
    )


def _plan(position: Position, entry: ExecutionIntent, exposed: Decimal, now: datetime) -> Plan:
    filters = protection.filters_of(position.symbol)
    if filters is None:
        raise Unprotectable(f"the exchange's filters of {position.symbol} were never read")
    stop, target = position.stop_price, position.target_price
    if stop is None:
        raise Unprotectable(f"no stop is on record for {position.symbol}")
    # The tick may have become coarser since the approval: rather sold early than held without a stop.
    stop = ceil_to_step(stop, filters.price_tick)
    target = None if target is None else floor_to_step(target, filters.price_tick)
    base = lists.attempt_id(
        client_order_id(selectors.ENVIRONMENT, entry.proposal_id), "p", _attempts(entry) + 1
    )
    quote = _fresh_quote(position.symbol, now)
    if quote is not None and quote.bid <= stop:
        # The stop's price has passed: what it would do now is to sell at market.
        return lists.plan_close(base_id=base, symbol=position.symbol, quantity=exposed)
    if quote is not None and target is not None and quote.ask >= target:
        target = None
    plan = lists.plan_protection(
        base_id=base,
        symbol=position.symbol,
        quantity=exposed,
        stop_price=stop,
        target_price=target,
        filters=filters,
    )
    reference = quote.mid if quote else stop
    broken = lists.broken_legs(plan, filters, reference, **selectors.open_counts(position.symbol))
    if broken and quote is not None:
        raise Unprotectable(f"the exchange would refuse it: {'; '.join(broken)}")
    return plan


def _attempts(entry: ExecutionIntent) -> int:
    return ExecutionIntent.objects.filter(proposal=entry.proposal, kind=IntentKind.PROTECTION).count()


def _fresh_quote(symbol: str, now: datetime) -> Quote | None:
    quote = market.latest_quote(symbol)
    return quote if quote is not None and now - quote.received_at <= QUOTE_AGE_MAX else None


def _attempt_is_due(symbol: str, now: datetime) -> bool:
    """Whether another attempt may be made: bounded in number and spaced, an alarm when they are used up."""
    made = list(
        ExecutionIntent.objects.filter(
            environment=selectors.ENVIRONMENT,
            symbol=symbol,
            kind=IntentKind.PROTECTION,
            created_at__gt=now - ATTEMPTS_WINDOW,
        ).order_by("created_at")
    )
    failed = [intent for intent in made if _came_to_nothing(intent)]
    if len(failed) >= len(ATTEMPT_SECONDS):
        _alarm(symbol, f"{len(failed)} attempts in {ATTEMPTS_WINDOW} came to nothing", now)
        return False
    return not made or now - made[-1].created_at >= timedelta(seconds=ATTEMPT_SECONDS[len(failed)])


def _came_to_nothing(intent: ExecutionIntent) -> bool:
    """Whether it never stood, or ended without a sale although nobody of us cancelled it."""
    orders = selectors.orders_of(intent)
    if all(order.status in FAILED for order in orders):
        return True
    ended_empty = all(protection.has_ended(order) and not order.executed_quantity for order in orders)
    return ended_empty and not intent.cancels.exists()


def _alarm(symbol: str, reason: str, now: datetime) -> None:
    raise_alert(
        kind="protection_failed",
        severity="critical",
        subject=f"position:{symbol}",
        title=f"{symbol} cannot be protected on the exchange",
        detail=f"{reason}. Protect or close the position by hand.",
        now=now,
    )


# --- exits ----------------------------------------------------------------------------------------------


def prepare_exit(*, proposal_id: UUID, exchange: ExchangeGateway, now: datetime) -> bool:
    """Clear the way of an approved SELL: cancel what protects the coins and read what came of it.

    True when the proposal may be claimed now: nothing of ours holds the coins and the books are complete, or
    the gate would refuse it anyway, which the claim then says, and the protection stays. A purchase needs
    nothing.
    """
    proposal = Proposal.objects.get(pk=proposal_id)
    if proposal.side != Side.SELL:
        return True
    symbol = proposal.symbol
    holding = [guard for guard in protection.guards(symbol) if guard.holds_coins]
    wanted = proposal.quantity or ZERO
    if not holding:
        return not protection.unbooked_orders(symbol, now) and see_balances(
            symbol=symbol, quantity=wanted, exchange=exchange, now=now
        )
    if would_be_refused(proposal=proposal, now=now):
        return True
    for guard in holding:
        if guard.wants_reading:
            read_orders(intent=guard.intent, exchange=exchange, now=now)
        cancel_intent(intent=guard.intent, exchange=exchange, why="exit", actor="execution", now=now)
    watch_position(symbol=symbol, now=clock_now())
    if any(guard.holds_coins for guard in protection.guards(symbol)):
        return False
    return not protection.unbooked_orders(symbol, now) and see_balances(
        symbol=symbol, quantity=wanted, exchange=exchange, now=now
    )


def see_balances(*, symbol: str, quantity: Decimal, exchange: ExchangeGateway, now: datetime) -> bool:
    """The balances after a cancel, from the exchange, when those told so far do not show the coins free.

    False when the exchange does not answer: nothing is sold on numbers of before the cancel.
    """
    books = selectors.portfolio(now=now)
    if (books.free_base.get(symbol) or ZERO) >= quantity:
        return True
    as_of = clock_now() + timedelta(milliseconds=books.clock_offset_ms or 0)
    try:
        balances = exchange.balances()
    except QueryFailed:
        return False
    store_balances([(as_of, balance) for balance in balances])
    return True
