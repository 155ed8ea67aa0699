"""POST order/cancelReplace: cancel one order, then place another; either may fail (binance.md §2.4)."""

from __future__ import annotations

from typing import Any

from simulator.api.desk import Call, Desk
from simulator.api.order_params import parse_order
from simulator.api.params import Params
from simulator.api.trading import cancel_order, place_order
from simulator.engine.errors import ExchangeError, missing_parameter

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
    when it is not tried.
    """
    mode = call.params.required("cancelReplaceMode")
    if mode not in ("STOP_ON_FAILURE", "ALLOW_FAILURE"):
        raise ExchangeError(-1145, "Invalid cancelReplaceMode.")
    request = parse_order(desk, call.params)
    if not (call.params.has("cancelOrderId") or call.params.has("cancelOrigClientOrderId")):
        raise missing_parameter("cancelOrigClientOrderId")
    account_id = call.account.account_id
    desk.limiter.check_orders(account_id, call.now_ms)
    desk.exchange.check(request)
    canceled, cancel_error = _attempt(cancel_order, desk, _cancel_call(call))
    if cancel_error is not None and mode == "STOP_ON_FAILURE":
        desk.limiter.add_orders(account_id, 1, call.now_ms)
        raise _failed(400, -2022, FAILURE, NOT_ATTEMPTED, cancel_error, None)
    placed, place_error = _attempt(place_order, desk, call)
    if place_error is not None:
        desk.limiter.add_orders(account_id, 1, call.now_ms)
    results = (FAILURE if cancel_error else SUCCESS, FAILURE if place_error else SUCCESS)
    if cancel_error is not None or place_error is not None:
        both = cancel_error is not None and place_error is not None
        status, code = (400, -2022) if both else (409, -2021)
        raise _failed(status, code, *results, cancel_error or canceled, place_error or placed)
    return {
        "cancelResult": results[0],
        "newOrderResult": results[1],
        "cancelResponse": canceled,
        "newOrderResponse": placed,
    }


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
    status: int, code: int, cancel_result: str, order_result: str, canceled: Any, placed: Any
) -> ExchangeError:
    partly = code == -2021
    return ExchangeError(
        code,
        "Order cancel-replace partially failed." if partly else "Order cancel-replace failed.",
        status=status,
        data={
            "cancelResult": cancel_result,
            "newOrderResult": order_result,
            "cancelResponse": canceled,
            "newOrderResponse": placed,
        },
    )
