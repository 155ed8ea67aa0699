"""The fixed rule by which the model stand-in answers. Same numbers in, same decision out.

It trades often and in every size on purpose: an operator who rehearses sees each path of the product within
minutes. It is not a strategy.

From the snapshot it takes close, EMA 9, EMA 21, RSI 14 and ATR 14 of one minute, bid, ask and tick size, and
the minute of the hour m of `as_of`. If one of them is missing or no positive number (ATR may be 0):
NO_TRADE STALE_DATA.

Without a position
    EMA 9 >= EMA 21 or RSI < 40: BUY, else NO_TRADE NO_EDGE.
    Amount in the quote asset: m % 20 == 0: 5000 (a gate should refuse it); else m % 3 == 0: 120,
    m % 3 == 1: 25, m % 3 == 2: 60.
With a position
    EMA 9 < EMA 21, RSI > 70, close <= stop or close >= target: SELL 100 % at market.
    Else m % 5 == 0: BUY 25 more; any other minute: NO_TRADE NO_EDGE.

A BUY is LIMIT IOC at ask * 1.0005 in even minutes and MARKET in odd ones. Its stop is
close - d and its target close + 2 * d with d = max(3 * ATR, 2 % of close), wide enough to pay fees and
collar. Prices are cut to the tick.
Confidence is 50 + 40 * |EMA 9 - EMA 21| / ATR, at most 90. Every decision is valid for 300 seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

VALID_FOR_SECONDS = 300
FACTS_QUOTED_MAX = 4
REASONS_CHARACTERS_MAX = 400
OVERSIZED_QUOTE = Decimal(5000)
QUOTE_BY_MINUTE = {0: Decimal(120), 1: Decimal(25), 2: Decimal(60)}
ADDITION_QUOTE = Decimal(25)
LIMIT_ABOVE_ASK = Decimal("1.0005")
STOP_ATRS = Decimal(3)
TARGET_PER_STOP = Decimal(2)
STOP_DISTANCE_MIN = Decimal("0.02")


@dataclass(slots=True, frozen=True)
class Numbers:
    """What the rule reads from a snapshot."""

    minute: int
    close: Decimal
    ema_9: Decimal
    ema_21: Decimal
    rsi: Decimal
    atr: Decimal
    ask: Decimal
    tick: Decimal
    has_position: bool
    stop: Decimal | None
    target: Decimal | None

    @property
    def trend_is_up(self) -> bool:
        return self.ema_9 >= self.ema_21


def decide(snapshot: dict[str, Any]) -> dict[str, Any]:
    """The decision for a snapshot, with every key of the answer's schema in its order."""
    try:
        numbers = read_numbers(snapshot)
    except (KeyError, TypeError, ValueError, InvalidOperation) as error:
        return _answer(snapshot, f"A number that the rule needs is missing or not usable: {error}.", None, {
            "action": "NO_TRADE", "no_trade_reason": "STALE_DATA", "confidence_pct": 50,
        })  # fmt: skip
    changes, reasons = _with_position(numbers) if numbers.has_position else _without_position(numbers)
    changes["confidence_pct"] = _confidence(numbers)
    return _answer(snapshot, reasons, numbers, changes)


def read_numbers(snapshot: dict[str, Any]) -> Numbers:
    """Raises KeyError, TypeError, ValueError or InvalidOperation when something is missing or not a number."""
    facts = {fact["id"]: fact["value"] for fact in snapshot["facts"]}
    position = snapshot["position"]
    as_of = datetime.fromisoformat(snapshot["as_of"])
    numbers = Numbers(
        minute=as_of.minute,
        close=_positive(facts, "close_1m"),
        ema_9=_positive(facts, "ema_9_1m"),
        ema_21=_positive(facts, "ema_21_1m"),
        rsi=_number(facts, "rsi_14_1m"),
        atr=_number(facts, "atr_14_1m"),
        ask=_positive(snapshot["quote"], "ask"),
        tick=_positive(snapshot["filters"], "tick_size"),
        has_position=position is not None,
        stop=_optional(position, "stop_price"),
        target=_optional(position, "target_price"),
    )
    if numbers.atr < 0 or not 0 <= numbers.rsi <= 100:
        raise ValueError("ATR is below 0 or RSI outside 0 to 100")
    return numbers


def _without_position(numbers: Numbers) -> tuple[dict[str, Any], str]:
    picture = _picture(numbers)
    if not numbers.trend_is_up and numbers.rsi >= 40:
        return {"action": "NO_TRADE", "no_trade_reason": "NO_EDGE"}, (
            f"{picture} The short average is below the long one and RSI is not oversold, so there is no edge."
        )
    amount = OVERSIZED_QUOTE if numbers.minute % 20 == 0 else QUOTE_BY_MINUTE[numbers.minute % 3]
    cause = "the short average is not below the long one" if numbers.trend_is_up else "RSI is below 40"
    return _buy(numbers, amount), f"{picture} Buying for {amount} because {cause}."


def _with_position(numbers: Numbers) -> tuple[dict[str, Any], str]:
    picture = _picture(numbers)
    cause = _exit_cause(numbers)
    if cause is not None:
        return {"action": "SELL", "order_type": "MARKET", "position_share_pct": 100}, (
            f"{picture} Selling the whole position because {cause}."
        )
    if numbers.minute % 5 == 0:
        return _buy(numbers, ADDITION_QUOTE), (
            f"{picture} The trend holds, so {ADDITION_QUOTE} is added to the position."
        )
    return {"action": "NO_TRADE", "no_trade_reason": "NO_EDGE"}, (
        f"{picture} The trend holds and the position is kept as it is."
    )


def _exit_cause(numbers: Numbers) -> str | None:
    if numbers.stop is not None and numbers.close <= numbers.stop:
        return f"the price has reached the stop {numbers.stop:f}"
    if numbers.target is not None and numbers.close >= numbers.target:
        return f"the price has reached the target {numbers.target:f}"
    if not numbers.trend_is_up:
        return "the short average has fallen below the long one"
    if numbers.rsi > 70:
        return "RSI is above 70"
    return None


def _buy(numbers: Numbers, amount: Decimal) -> dict[str, Any]:
    distance = max(STOP_ATRS * numbers.atr, numbers.close * STOP_DISTANCE_MIN)
    is_limit = numbers.minute % 2 == 0
    return {
        "action": "BUY",
        "order_type": "LIMIT" if is_limit else "MARKET",
        "time_in_force": "IOC" if is_limit else None,
        "limit_price": _on_tick(numbers.ask * LIMIT_ABOVE_ASK, numbers.tick) if is_limit else None,
        "stop_price": _on_tick(numbers.close - distance, numbers.tick),
        "target_price": _on_tick(numbers.close + distance * TARGET_PER_STOP, numbers.tick),
        "quote_amount": f"{amount:f}",
    }


def _picture(numbers: Numbers) -> str:
    return (
        f"Close {numbers.close:f}, EMA 9 {numbers.ema_9:f}, EMA 21 {numbers.ema_21:f}, "
        f"RSI {numbers.rsi:f}, ATR {numbers.atr:f}."
    )


def _confidence(numbers: Numbers) -> int:
    if not numbers.atr:
        return 50
    return min(90, 50 + int(40 * abs(numbers.ema_9 - numbers.ema_21) / numbers.atr))


def _answer(
    snapshot: dict[str, Any], reasons: str, numbers: Numbers | None, changes: dict[str, Any]
) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "schema_version": "1",
        "snapshot_id": snapshot.get("snapshot_id"),
        "symbol": snapshot.get("symbol"),
        "facts": _quoted_facts(snapshot, numbers),
        "reasons": reasons[:REASONS_CHARACTERS_MAX],
        "action": None,
        "no_trade_reason": None,
        "order_type": None,
        "time_in_force": None,
        "limit_price": None,
        "stop_price": None,
        "target_price": None,
        "quote_amount": None,
        "position_share_pct": None,
        "confidence_pct": None,
        "valid_for_seconds": VALID_FOR_SECONDS,
    }
    assert changes.keys() <= answer.keys()
    return answer | changes


def _quoted_facts(snapshot: dict[str, Any], numbers: Numbers | None) -> list[dict[str, Any]]:
    """The facts that decided, copied as they came; when the rule could not decide, the first ones."""
    given = snapshot.get("facts")
    facts = [fact for fact in given if isinstance(fact, dict)] if isinstance(given, list) else []
    if numbers is not None:
        used = ("ema_9_1m", "ema_21_1m", "rsi_14_1m", "atr_14_1m")
        facts = [fact for name in used for fact in facts if fact.get("id") == name]
    return [{"id": fact.get("id"), "value": fact.get("value")} for fact in facts[:FACTS_QUOTED_MAX]]


def _number(values: dict[str, Any], name: str) -> Decimal:
    value = values[name]
    if not isinstance(value, str | int):
        raise TypeError(f"{name} is not a number")
    number = Decimal(value)
    if not number.is_finite():
        raise ValueError(f"{name} is not finite")
    return number


def _positive(values: dict[str, Any], name: str) -> Decimal:
    number = _number(values, name)
    if number <= 0:
        raise ValueError(f"{name} is not above 0")
    return number


def _optional(position: dict[str, Any] | None, name: str) -> Decimal | None:
    if position is None or position.get(name) is None:
        return None
    return _number(position, name)


def _on_tick(price: Decimal, tick: Decimal) -> str:
    return f"{price // tick * tick:f}"
