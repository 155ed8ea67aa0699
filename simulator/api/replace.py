"""POST order/cancelReplace: cancel one order, then place another; either may fail (binance.md §2.4)."""

from __future__ import annotations

from typing import Any

from simulator.api.desk import Call, Desk
from simulator.api.order_params import parse_order
from simulator.api.params import Params
from simulator.api.trading import cancel_order, place_order
from simulator.engine.errors import ExchangeError, invalid_parameter, missing_parameter

MODES = ("STOP_ON_FAILURE", "ALLOW_FAILURE")
LIMIT_MODES = ("DO_NOTHING", "CANCEL_ONLY")
SUCCESS, FAILURE, NOT_ATTEMPTED = "SUCCESS", "FAILURE", "NOT_ATTEMPTED"
RENAMED = {
    "cancelOrderId": "orderId",
    "cancelOrigClientOrderId": "origClientOrderId",
    "cancelNewClientOrderId": "newClientOrderId",
    "cancelRestrictions": "cancelRestrictions",
}


def cancel_replace(desk: Desk, call: Call) -> dict[str, Any]:
    """Raises -2021 (one part failed) or -2022 (both, or the second was not tried), with both parts in `data`.

    The new order's filters and the order count are checked before the cancel; it counts as a new order even
    when it is not tried. With CANCEL_ONLY an order count that is used up does not keep it from cancelling.
    """
    params, account_id = call.params, call.account.account_id
    stops = _one_of(params.required("cancelReplaceMode"), MODES, "cancelReplaceMode") == MODES[0]
    over_limit = params.text("orderRateLimitExceededMode") or LIMIT_MODES[0]
    cancels_anyway = _one_of(over_limit, LIMIT_MODES, "orderRateLimitExceededMode") == LIMIT_MODES[1]
    request = parse_order(desk, params)
    if not (params.has("cancelOrderId") or params.has("cancelOrigClientOrderId")):
        raise missing_parameter("cancelOrigClientOrderId")
    exceeded: ExchangeError | None = None
    try:
        desk.limiter.check_orders(account_id, call.now_ms)
    except ExchangeError as error:
        if not cancels_anyway:
            raise
        exceeded = error
    desk.exchange.check(request)
    canceled, cancel_error = _attempt(cancel_order, desk, _cancel_call(call))
    if cancel_error is not None and stops:
        desk.limiter.add_orders(account_id, 1, call.now_ms)
        raise _failed(400, -2022, FAILURE, NOT_ATTEMPTED, cancel_error, None, exceeded)
    placed, place_error = (None, exceeded.body()) if exceeded else _attempt(place_order, desk, call)
    if place_error is not None:
        desk.limiter.add_orders(account_id, 1, call.now_ms)
    results = (FAILURE if cancel_error else SUCCESS, FAILURE if place_error else SUCCESS)
    if cancel_error is not None or place_error is not None:
        both = cancel_error is not None and place_error is not None
        status, code = (400, -2022) if both else (409, -2021)
        raise _failed(
            status,
            code,
            *results,
            cancel_error or canceled,
            place_error or placed,
            exceeded if stops else None,
        )
    return {
        "cancelResult": results[0],
        "newOrderResult": results[1],
        "cancelResponse": canceled,
        "newOrderResponse": placed,
    }


def _one_of(value: str, known: tuple[str, str], name: str) -> str:
    if value not in known:
        raise invalid_parameter(name)
    return value


def _attempt(handler: Any, desk: Desk, call: Call) -> tuple[Any, dict[str, Any] | None]:
    try:
        return handler(desk, call), None
    except ExchangeError as error:
        return None, {"code": error.code, "msg": error.message}


def _cancel_call(call: Call) -> Call:
    values = {"symbol": call.params.required("symbol")}
    for name, plain in RENAMED.items():
        text = call.params.text(name)
        if text is not None:
            values[plain] = text
    return Call(Params(values), call.method, call.path, call.now_ms, call.signed_by)


def _failed(
    status: int,
    code: int,
    cancel_result: str,
    order_result: str,
    canceled: Any,
    placed: Any,
    exceeded: ExchangeError | None,
) -> ExchangeError:
    """`exceeded` makes it a 429: the order count was the reason."""
    partly = code == -2021
    return ExchangeError(
        code,
        "Order cancel-replace partially failed." if partly else "Order cancel-replace failed.",
        status=429 if exceeded else status,
        retry_after_s=exceeded.retry_after_s if exceeded else None,
        data={
            "cancelResult": cancel_result,
            "newOrderResult": order_result,
            "cancelResponse": canceled,
            "newOrderResponse": placed,
        },
    )
