"""What a kill leaves to the trading worker: open entries are cancelled, for FLATTEN what is held is sold.

Both go the ways that exist: a cancel of ours (sent once, its outcome read from the orders) and the request to
close a position (its protection cancelled first, sold once). The sweep takes a kill up again until by the
exchange's own word nothing is left, or somebody moved the switch.
"""

from datetime import datetime

from execution import selectors
from execution.contracts import AnswerRefused, ExchangeGateway, RequestKind
from execution.models import OperatorRequest, Position
from execution.services.cancelling import cancel_intent
from execution.services.operating import ask_close
from execution.services.watching import watch_position
from risk import selectors as risk_selectors
from risk import services as risk
from risk.contracts import KillScope, KillStatus, TradingState
from risk.models import Kill
from tradingbot.core.clock import now as clock_now
from tradingbot.core.transitions import StaleState

CLOSES_MAX = 3  # requests to close one symbol before a person has to look
# The states of the switch in which a kill goes on; in another one somebody decided otherwise.
GOES_ON_IN = {
    KillScope.STOP_ENTRIES: {TradingState.HALTED, TradingState.REDUCING},
    KillScope.CANCEL_ENTRIES: {TradingState.HALTED, TradingState.REDUCING},
    KillScope.FLATTEN: {TradingState.REDUCING},
}


def carry_out_kills(*, exchange: ExchangeGateway, now: datetime) -> int:
    """Take every kill that is under way one step on; how many there were."""
    found = risk_selectors.kills_under_way()
    for kill in found:
        try:
            _carry_out(kill, exchange, now)
        except StaleState:
            continue  # another worker ended it
    return len(found)


def _carry_out(kill: Kill, exchange: ExchangeGateway, now: datetime) -> None:
    state = risk_selectors.trading_state()
    if state not in GOES_ON_IN[KillScope(kill.scope)]:
        detail = f"The trading control was set to {state} before all was done; nothing more is cancelled."
        risk.end_kill(kill=kill, status=KillStatus.SUPERSEDED, detail=detail, now=now)
        return
    risk.end_what_waits(kill)
    if kill.scope == KillScope.STOP_ENTRIES:
        risk.end_kill(kill=kill, status=KillStatus.DONE, detail="Nothing new is ordered.", now=now)
        return
    open_in = _cancel_entries(kill, exchange, now)
    if kill.scope == KillScope.FLATTEN:
        _flatten(kill, open_in | selectors.unbooked_quote(clock_now()).keys(), clock_now())
        return
    if open_in:
        return
    detail = "No entry of ours is open on the exchange; what protects what is held stays."
    risk.end_kill(kill=kill, status=KillStatus.DONE, detail=detail, now=clock_now())


def _cancel_entries(kill: Kill, exchange: ExchangeGateway, now: datetime) -> set[str]:
    """Cancel each open entry that was claimed before the switch moved; the symbols in which one is left."""
    entries = [o for o in selectors.open_entries() if o.intent.control_version <= kill.control_version]
    for order in entries:
        # What of it filled is held: its protection is seen to by `guard_positions`, which no halt stops.
        cancel_intent(intent=order.intent, exchange=exchange, why="kill", actor=kill.actor, now=now)
        watch_position(symbol=order.symbol, now=clock_now())
    left = [o for o in selectors.open_entries() if o.intent.control_version <= kill.control_version]
    return {order.symbol for order in left}


def _flatten(kill: Kill, open_in: set[str], now: datetime) -> None:
    """Ask once for the sale of each position; done when nothing is held that can be sold.

    Where an entry may still fill, or trades are to be told (`open_in`), it is sold after that, and no other
    position waits for it.
    """
    held = [position for position in selectors.sellable_positions() if position.symbol not in open_in]
    if not held and open_in:
        return
    if not held:
        risk.end_flatten(kill=kill, detail="Nothing is held that could be sold.", now=now)
        return
    asked = {position.symbol: _closes(position.symbol, kill) for position in held}
    hopeless = [
        symbol
        for symbol, requests in asked.items()
        if len(requests) >= CLOSES_MAX and all(request.done_at for request in requests)
    ]
    if hopeless and not open_in:
        detail = (
            f"Not sold after {CLOSES_MAX} attempts: {', '.join(hopeless)}. {asked[hopeless[0]][-1].detail}"
        )
        risk.end_kill(kill=kill, status=KillStatus.INCOMPLETE, detail=detail, now=now)
        return
    for position in held:
        if position.symbol not in hopeless and all(r.done_at for r in asked[position.symbol]):
            _ask(position, kill, now)


def _ask(position: Position, kill: Kill, now: datetime) -> None:
    try:
        ask_close(
            symbol=position.symbol,
            quantity=position.quantity,
            reason=f"kill {kill.pk}: flatten",
            actor=kill.actor,
            now=now,
        )
    except AnswerRefused:
        return  # under way already, or the streams are stale: the next sweep asks again


def _closes(symbol: str, kill: Kill) -> list[OperatorRequest]:
    rows = OperatorRequest.objects.filter(
        environment=selectors.ENVIRONMENT,
        kind=RequestKind.CLOSE_POSITION,
        order__symbol=symbol,
        asked_at__gte=kill.asked_at,
    )
    return list(rows.order_by("id"))
