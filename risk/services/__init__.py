"""All writes of risk: judging, the switch, the limits."""

from risk.services.control import halt, set_trading_state
from risk.services.gate import assess_proposal, authorise_order
from risk.services.limits import save_limits

__all__ = ["assess_proposal", "authorise_order", "halt", "save_limits", "set_trading_state"]
