"""The writing verbs of execution. Each is one transaction; the network is only ever between two of them."""

from execution.services.applying import apply_report
from execution.services.approving import approve_proposal
from execution.services.booking import record_equity
from execution.services.cancelling import cancel_intent, resolve_cancels
from execution.services.claiming import abort_stale_intents, claim_proposal
from execution.services.folding import fold_account_events, fold_pending_events
from execution.services.killing import carry_out_kills
from execution.services.operating import ask_cancel, ask_close
from execution.services.personal import carry_out_requests
from execution.services.protecting import create_protection, guard_positions, prepare_exit
from execution.services.reconciling import measure_clock, reconcile, request_reconciliation
from execution.services.replacing import ask_replace
from execution.services.reviewing import (
    absence_may_be_confirmed_at,
    ask_review,
    how_it_stands,
    keep_watching,
)
from execution.services.saga import conclusive_instant, probe_unknown
from execution.services.sending import gateway, mark_silent_sends_unknown, send_order
from execution.services.settling import ask_settlement, choices_of, settle_divergence
from execution.services.trying import try_first
from execution.services.watching import watch_position

__all__ = [
    "abort_stale_intents",
    "absence_may_be_confirmed_at",
    "apply_report",
    "approve_proposal",
    "ask_cancel",
    "ask_close",
    "ask_replace",
    "ask_review",
    "ask_settlement",
    "cancel_intent",
    "carry_out_kills",
    "carry_out_requests",
    "choices_of",
    "claim_proposal",
    "conclusive_instant",
    "create_protection",
    "fold_account_events",
    "fold_pending_events",
    "gateway",
    "guard_positions",
    "how_it_stands",
    "keep_watching",
    "mark_silent_sends_unknown",
    "measure_clock",
    "prepare_exit",
    "probe_unknown",
    "reconcile",
    "record_equity",
    "request_reconciliation",
    "resolve_cancels",
    "send_order",
    "settle_divergence",
    "try_first",
    "watch_position",
]
