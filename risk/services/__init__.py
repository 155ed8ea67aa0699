"""All writes of risk: judging, the switch, the limits."""

from risk.services.autonomy import follow_health
from risk.services.control import forbids_sending, set_trading_state
from risk.services.gate import assess_proposal, authorise_order, judge_now, reduce_proposal
from risk.services.kills import end_flatten, end_kill, end_what_waits, halt
from risk.services.limits import answer_request, request_limits, save_limits

__all__ = [
    "answer_request",
    "assess_proposal",
    "authorise_order",
    "end_flatten",
    "end_kill",
    "end_what_waits",
    "follow_health",
    "forbids_sending",
    "halt",
    "judge_now",
    "reduce_proposal",
    "request_limits",
    "save_limits",
    "set_trading_state",
]
