"""The signed token on each card: who was shown which order, and when. It ages within seconds."""

from datetime import datetime
from uuid import UUID

from django.core import signing
from django.db import transaction

from proposals.contracts import SHOWN_SECONDS_MAX, DecisionRefused
from proposals.models import Proposal
from proposals.services.approvals import pending_as_shown

_SALT = "proposals.shown"
CLOCK_SLACK_SECONDS = 1.0  # web servers of one desk may differ by this much


def shown_token(*, proposal: Proposal, actor: str, now: datetime) -> str:
    """The token of a card that `actor` is shown at `now`; it holds for SHOWN_SECONDS_MAX."""
    content = [str(proposal.pk), proposal.version, proposal.digest, actor, now.timestamp()]
    return signing.Signer(salt=_SALT).sign_object(content)


def check_shown(
    *, token: str, proposal_id: UUID | str, version: int, digest: str, actor: str, now: datetime
) -> None:
    """Refuse a decision whose card was not shown to `actor` just now: DecisionRefused (OLD_PAGE).

    Whoever lost a race is told so whatever the age of his card: the codes of an approval come first.
    """
    if _is_fresh(token, [str(proposal_id), version, digest, actor], now):
        return
    with transaction.atomic():
        pending_as_shown(proposal_id, version, digest, now, done="decided")
    raise DecisionRefused(
        "OLD_PAGE",
        f"The page was older than {SHOWN_SECONDS_MAX} seconds, so nothing was decided. This is how it stands "
        "now: read it and decide again.",
    )


def _is_fresh(token: str, content: list[object], now: datetime) -> bool:
    try:
        *signed, shown_at = signing.Signer(salt=_SALT).unsign_object(token)
        age_seconds = now.timestamp() - shown_at
    except (signing.BadSignature, ValueError, TypeError):
        return False
    return signed == content and -CLOCK_SLACK_SECONDS <= age_seconds <= SHOWN_SECONDS_MAX
