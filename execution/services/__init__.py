"""The writing verbs of execution. Each is one transaction; the network is only ever between two of them."""

from execution.services.approving import approve_proposal
from execution.services.booking import record_equity
from execution.services.claiming import abort_stale_intents, claim_proposal
from execution.services.folding import apply_report, fold_account_event, fold_pending_events
from execution.services.reconciling import (
    measure_clock,
    reconcile,
    request_reconciliation,
    resolve_divergence,
)
from execution.services.saga import probe_unknown, resolve_by_person
from execution.services.sending import gateway, mark_silent_sends_unknown, send_order

__all__ = [
    "abort_stale_intents",
    "apply_report",
    "approve_proposal",
    "claim_proposal",
    "fold_account_event",
    "fold_pending_events",
    "gateway",
    "mark_silent_sends_unknown",
    "measure_clock",
    "probe_unknown",
    "reconcile",
    "record_equity",
    "request_reconciliation",
    "resolve_by_person",
    "resolve_divergence",
    "send_order",
]
