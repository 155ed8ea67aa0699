"""Order lists: what is sent for an entry with its protection or for a protection alone, and what is told of it.

Binance's rules in reference/binance.md §2.5: the working leg is LIMIT or LIMIT_MAKER, never MARKET; pending
legs are placed when it is wholly filled; a list is accepted or refused whole. Rounding is never in our favour:
quantities go down, a stop that needs a limit gets room below it.
"""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from execution.contracts import ExchangeStatus, ListKind, OrderReport, Plan, PlannedLeg, Role, Source
from execution.rules import MalformedReport, leg_id, report_of_cancel, report_of_rest
from market.contracts import SymbolFilters
from tradingbot.core.clock import from_milliseconds
from tradingbot.core.decimals import ZERO, floor_to_step, is_multiple, plain

# Filters are judged against the exchange's own reference price, which we only know nearly.
NOTIONAL_HEAD_ROOM = Decimal("1.02")
# How far below its trigger a stop that must have a limit may still sell.
STOP_LIMIT_ROOM = Decimal("0.98")
LISTS_MAX = 20
ATTEMPTS_MAX = 36**2 - 1
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def attempt_id(base: str, letter: str, number: int) -> str:
    """The id of the `number`-th request of a sort ("p" protects, "c" closes) for what `base` opened."""
    if not 0 < number <= ATTEMPTS_MAX:
        raise ValueError(f"attempt {number} of {base} is out of range")
    return leg_id(base, letter + DIGITS[number // 36] + DIGITS[number % 36])


# --- what is sent ---------------------------------------------------------------------------------------


def plan_entry(
    *,
    base_id: str,
    symbol: str,
    side: str,
    order_type: str,
    time_in_force: str,
    quantity: Decimal,
    price: Decimal | None,
    stop_price: Decimal | None,
    target_price: Decimal | None,
    filters: SymbolFilters | None,
    fee_rate: Decimal,
) -> Plan:
    """The request for an approved order: an entry at a limit takes its stop and target with it.

    A MARKET order cannot lead a list (binance.md §2.5); it goes alone and is protected once it is filled.
    """
    working = PlannedLeg(Role.ORDER, base_id, side, order_type, quantity, price)
    if (
        filters is None
        or side != "BUY"
        or order_type != "LIMIT"
        or price is None
        or stop_price is None
        or not filters.oto_allowed
    ):
        return plan_single(symbol=symbol, leg=working, time_in_force=time_in_force)
    with_target = target_price if filters.oco_allowed else None
    kind = _entry_kind(filters, with_target is not None)
    kept = floor_to_step(quantity * (1 - fee_rate), filters.quantity_step)
    legs = _exit_legs(base_id, kept, stop_price, with_target, filters)
    parameters = {
        "symbol": symbol,
        "listClientOrderId": leg_id(base_id, "l"),
        "newOrderRespType": "FULL",
        "workingType": order_type,
        "workingSide": side,
        "workingClientOrderId": base_id,
        "workingQuantity": plain(quantity),
        "workingPrice": plain(price),
        "workingTimeInForce": time_in_force,
        "pendingSide": "SELL",
        **({} if kind.pays_onward else {"pendingQuantity": plain(kept)}),
        **_leg_parameters(legs, "pending"),
    }
    return Plan(f"orderList/{kind.lower()}", kind, leg_id(base_id, "l"), parameters, (working, *legs))


def _entry_kind(filters: SymbolFilters, with_target: bool) -> ListKind:
    if with_target:
        return ListKind.OPOCO if filters.opo_allowed else ListKind.OTOCO
    return ListKind.OPO if filters.opo_allowed else ListKind.OTO


def plan_protection(
    *,
    base_id: str,
    symbol: str,
    quantity: Decimal,
    stop_price: Decimal,
    target_price: Decimal | None,
    filters: SymbolFilters,
) -> Plan:
    """Protect what is held: an OCO of stop and target, or a stop alone."""
    target = target_price if filters.oco_allowed else None
    legs = _exit_legs(base_id, quantity, stop_price, target, filters)
    if len(legs) == 1:
        return plan_single(symbol=symbol, leg=legs[0], time_in_force="GTC")
    parameters = {
        "symbol": symbol,
        "side": "SELL",
        "quantity": plain(quantity),
        "listClientOrderId": leg_id(base_id, "l"),
        "newOrderRespType": "FULL",
        **_leg_parameters(legs, ""),
    }
    return Plan("orderList/oco", ListKind.OCO, leg_id(base_id, "l"), parameters, legs)


def plan_close(*, base_id: str, symbol: str, quantity: Decimal) -> Plan:
    """Sell at market: what a stop does when its price has passed already, or what an operator asks for."""
    leg = PlannedLeg(Role.CLOSE, base_id, "SELL", "MARKET", quantity)
    return plan_single(symbol=symbol, leg=leg, time_in_force="")


def plan_single(*, symbol: str, leg: PlannedLeg, time_in_force: str) -> Plan:
    """One order by itself (POST order, binance.md §2.4)."""
    parameters = {
        "symbol": symbol,
        "side": leg.side,
        "type": leg.order_type,
        "quantity": plain(leg.quantity),
        "newClientOrderId": leg.client_order_id,
        "newOrderRespType": "FULL",
    }
    if leg.price is not None and leg.order_type in {"LIMIT", "STOP_LOSS_LIMIT"}:
        parameters |= {"timeInForce": time_in_force, "price": plain(leg.price)}
    if leg.trigger_price is not None:
        parameters["stopPrice"] = plain(leg.trigger_price)
    return Plan("order", ListKind.NONE, "", parameters, (leg,))


def _exit_legs(
    base_id: str, quantity: Decimal, stop: Decimal, target: Decimal | None, filters: SymbolFilters
) -> tuple[PlannedLeg, ...]:
    """The stop first: it is the leg that matters. At market where the symbol has it, else with a limit."""
    at_market = "STOP_LOSS" in filters.order_types
    legs = [
        PlannedLeg(
            Role.STOP,
            leg_id(base_id, "s"),
            "SELL",
            "STOP_LOSS" if at_market else "STOP_LOSS_LIMIT",
            quantity,
            None if at_market else floor_to_step(stop * STOP_LIMIT_ROOM, filters.price_tick),
            stop,
        )
    ]
    if target is not None:
        legs.append(PlannedLeg(Role.TARGET, leg_id(base_id, "t"), "SELL", "LIMIT_MAKER", quantity, target))
    return tuple(legs)


def _leg_parameters(legs: tuple[PlannedLeg, ...], prefix: str) -> dict[str, str]:
    """Parameters of the legs under their names: `pendingBelowStopPrice`, `aboveType` and so on."""
    parameters: dict[str, str] = {}
    for leg in legs:
        place = {Role.STOP: "Below", Role.TARGET: "Above"}[leg.role] if len(legs) == 2 else ""
        start = prefix + place if prefix else place.lower()
        parameters |= {f"{start}Type": leg.order_type, f"{start}ClientOrderId": leg.client_order_id}
        if leg.price is not None:
            parameters[f"{start}Price"] = plain(leg.price)
        if leg.trigger_price is not None:
            parameters[f"{start}StopPrice"] = plain(leg.trigger_price)
        if leg.order_type == "STOP_LOSS_LIMIT":
            parameters[f"{start}TimeInForce"] = "GTC"
    return parameters


# --- what the exchange would refuse ---------------------------------------------------------------------


def broken_legs(
    plan: Plan,
    filters: SymbolFilters,
    reference: Decimal,
    *,
    open_orders: int,
    open_stops: int,
    open_lists: int,
) -> list[str]:
    """Which filters the protecting legs of a plan would break, in words; a list is refused whole.

    `reference` stands for the exchange's own reference price; the counts are of the symbol's open orders.
    """
    legs = [leg for leg in plan.legs if leg.role in {Role.STOP, Role.TARGET}]
    broken = [problem for leg in legs for problem in _broken_leg(leg, filters, reference)]
    stops = sum(leg.role is Role.STOP for leg in legs)
    if stops and 0 < filters.algo_orders_max < open_stops + stops:
        broken.append(f"it takes {filters.algo_orders_max} stops a symbol, {open_stops} are open")
    if legs and 0 < filters.open_orders_max < open_orders + len(plan.legs):
        broken.append(f"it takes {filters.open_orders_max} open orders a symbol, {open_orders} are open")
    if plan.list_kind and open_lists >= LISTS_MAX:
        broken.append(f"it takes {LISTS_MAX} order lists a symbol, {open_lists} are open")
    return broken


def _broken_leg(leg: PlannedLeg, filters: SymbolFilters, reference: Decimal) -> Iterator[str]:
    name = f"the {leg.role} leg"
    yield from _broken_quantity(name, leg, filters)
    prices = [price for price in (leg.price, leg.trigger_price) if price is not None]
    for price in prices:
        if not is_multiple(price, filters.price_tick):
            yield f"{name} at {plain(price)} is not on the tick {plain(filters.price_tick)}"
        if price < filters.price_min or price <= 0 or 0 < filters.price_max < price:
            yield f"{name} at {plain(price)} is outside the price filter"
    if leg.price is not None:
        low, high = reference * filters.ask_multiplier_down, reference * filters.ask_multiplier_up
        if leg.price < low or 0 < high < leg.price:
            yield f"{name} at {plain(leg.price)} is too far from the price"
    worth = leg.quantity * min(prices)
    if worth < filters.notional_min * NOTIONAL_HEAD_ROOM:
        yield f"{name} is worth {plain(worth)}, too little for the exchange"


def _broken_quantity(name: str, leg: PlannedLeg, filters: SymbolFilters) -> Iterator[str]:
    if leg.quantity < max(filters.quantity_min, filters.quantity_step) or leg.quantity <= 0:
        yield f"{name} would sell {plain(leg.quantity)}, less than the exchange's minimum"
    if not is_multiple(leg.quantity, filters.quantity_step):
        yield f"the quantity of {name} is not a multiple of {plain(filters.quantity_step)}"
    if 0 < filters.quantity_max < leg.quantity:
        yield f"the quantity of {name} is above {plain(filters.quantity_max)}"
    if leg.order_type == "STOP_LOSS" and 0 < filters.market_quantity_max < leg.quantity:
        yield f"the quantity of {name} is above {plain(filters.market_quantity_max)} at market"


# --- what is told ---------------------------------------------------------------------------------------


def reports_of_placing(payload: Mapping[str, Any]) -> tuple[OrderReport, ...]:
    """The answer of a request that placed one order or an order list."""
    if not isinstance(payload, Mapping):
        raise MalformedReport("answer: not an object")
    if "orderListId" in payload and "contingencyType" in payload:
        found = reports_of_list(payload, Source.REST)
        if not found:
            raise MalformedReport("order list: it names no order")
        return found
    return (report_of_rest(payload, Source.REST),)


def reports_of_list(payload: Mapping[str, Any], source: Source) -> tuple[OrderReport, ...]:
    """An answer about an order list: its `orderReports`, or that its legs exist when it names them only."""
    try:
        reports = payload.get("orderReports")
        if reports:
            return tuple(report_of_rest(row, source) for row in reports)
        if payload["listOrderStatus"] == "REJECT":
            return ()
        return tuple(
            _listed(row["symbol"], row["orderId"], row["clientOrderId"], payload["transactionTime"], source)
            for row in payload["orders"]
        )
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError, OSError) as error:
        raise MalformedReport(f"order list: {type(error).__name__} {error}") from error


def reports_of_cancel(payload: Mapping[str, Any]) -> tuple[OrderReport, ...]:
    """The answer of a cancel, of an order or of a list: a report of each order that it ended."""
    try:
        rows = payload.get("orderReports", [payload])
        return tuple(report_of_cancel(row) for row in rows)
    except (KeyError, TypeError, AttributeError) as error:
        raise MalformedReport(f"cancel: {type(error).__name__} {error}") from error


def reports_of_list_event(event: Mapping[str, Any]) -> tuple[OrderReport, ...]:
    """A `listStatus` event: proof that its legs exist, unless it says that the list was rejected."""
    try:
        if event["L"] == "REJECT":
            return ()
        return tuple(_listed(row["s"], row["i"], row["c"], event["T"], Source.STREAM) for row in event["O"])
    except (KeyError, TypeError, ValueError, ArithmeticError, OSError) as error:
        raise MalformedReport(f"listStatus: {type(error).__name__} {error}") from error


def _listed(symbol: str, order_id: Any, client_order_id: str, at_ms: Any, source: Source) -> OrderReport:
    """The least that can be said of an order: it is there. The fold lets any other report prevail."""
    if not isinstance(symbol, str) or not isinstance(client_order_id, str):
        raise TypeError("a leg without symbol or id")
    return OrderReport(
        symbol=symbol,
        client_order_id=client_order_id,
        exchange_order_id=int(order_id),
        status=ExchangeStatus.PENDING_NEW,
        side="",
        order_type="",
        quantity=ZERO,
        price=ZERO,
        executed_quantity=ZERO,
        cumulative_quote=ZERO,
        at=from_milliseconds(int(at_ms)),
        source=source,
        event_key=f"{int(order_id)}:listed",
        fills=(),
        raw={"orderId": int(order_id), "clientOrderId": client_order_id, "listed": True},
    )
