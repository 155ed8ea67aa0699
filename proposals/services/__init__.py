"""What can be done in proposing. Called through this package: `services.approve_proposal(...)`."""

from proposals.services.advice import advise
from proposals.services.approvals import (
    approve_proposal,
    cancel_pending,
    claim_for_execution,
    pending_as_shown,
    reject_proposal,
)
from proposals.services.asking import ask_decision
from proposals.services.expiry import expire_overdue
from proposals.services.questions import load_prompt
from proposals.services.reductions import record_reduction
from proposals.services.replaying import replay_decision
from proposals.services.scoring import score_proposals
from proposals.services.shown import check_shown, shown_token
from proposals.services.strategies import save_price, save_strategy
from proposals.services.verdicts import record_verdict

__all__ = [
    "advise",
    "approve_proposal",
    "ask_decision",
    "cancel_pending",
    "check_shown",
    "claim_for_execution",
    "expire_overdue",
    "load_prompt",
    "pending_as_shown",
    "record_reduction",
    "record_verdict",
    "reject_proposal",
    "replay_decision",
    "save_price",
    "save_strategy",
    "score_proposals",
    "shown_token",
]
