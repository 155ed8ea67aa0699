"""Panels of risk: whether trading is armed, on every page."""

from typing import Any

from risk import selectors
from risk.contracts import TradingState
from tradingbot.core import clock
from tradingbot.core.panels import panel


@panel("shell", template="risk/shell.html", topics={"control", "limits", "feed"})
def shell(user: Any, argument: str) -> dict[str, Any]:
    """Environment, the switch, whether an order could go out now and if not why not, the Halt button."""
    armed, reasons = selectors.trading_armed(clock.now())
    state = selectors.trading_state()
    return {
        "armed": armed,
        "reasons": reasons,
        "state": state,
        "halted": state is TradingState.HALTED,
        "control": selectors.control(),
    }
