"""What the advisor is asked: the versioned prompt files filled with the snapshot and the desk's own numbers."""

import json
import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string

from market.models import Snapshot
from proposals import rules, selectors
from proposals.contracts import AdvisorAccount, AdvisorUnavailable, HeldPosition, ModelApi
from proposals.models import Proposal, Strategy
from tradingbot.core.audit import sha256_hex
from tradingbot.core.decimals import plain

PROMPTS = Path(__file__).resolve().parent.parent / "prompts"
DATA_MARK = "<<DATA>>"
RECENT_DECISIONS = 5
_VERSION = re.compile(r"v[0-9]{1,4}")


@dataclass(frozen=True, slots=True)
class Prompt:
    """One version of the prompt files. A version never changes: a change is a new version."""

    system: str
    user: str

    @property
    def sha256(self) -> str:
        """Over both files, with a NUL between them."""
        return sha256_hex(f"{self.system}\0{self.user}")


@dataclass(frozen=True, slots=True)
class Question:
    """A request as it will be sent, with what the answer is held against."""

    request: dict[str, Any]
    payload: dict[str, Any]
    position: HeldPosition | None
    prompt_sha256: str


@cache
def load_prompt(version: str) -> Prompt:
    """The prompt files of `version`; raises AdvisorUnavailable (PROMPT_MISSING)."""
    folder = PROMPTS / version
    if not _VERSION.fullmatch(version) or not folder.is_dir():
        raise AdvisorUnavailable("PROMPT_MISSING", f"there is no prompt version {version!r:.20}")
    return Prompt(
        system=(folder / "system.txt").read_text(encoding="utf-8"),
        user=(folder / "user.txt").read_text(encoding="utf-8"),
    )


def build_question(*, strategy: Strategy, snapshot: Snapshot, now: datetime) -> Question:
    """The request for one decision on `snapshot`; reads account, limits and recent decisions as of `now`."""
    prompt = load_prompt(strategy.prompt_version)
    account: AdvisorAccount = import_string(settings.ADVISOR_ACCOUNT)(snapshot.symbol, now)
    data = {
        **snapshot.payload,
        "snapshot_sha256": snapshot.sha256,
        "account": {"free_quote": _number(account.free_quote), "free_base": _number(account.free_base)},
        "position": None if account.position is None else _position(account.position, now),
        "other_positions": {symbol: _position(held, now) for symbol, held in account.other_positions.items()},
        "limits_remaining": account.limits_remaining,
        "recent_decisions": [
            _recent(proposal)
            for proposal in selectors.recent_proposals(strategy, snapshot.symbol, RECENT_DECISIONS)
        ],
    }
    text = json.dumps(data, separators=(",", ":"))
    return Question(
        request=rules.request_of(
            api=ModelApi(strategy.api),
            model=strategy.model or settings.ADVISOR_MODEL,
            system=prompt.system,
            user=prompt.user.replace(DATA_MARK, text),
        ),
        payload=snapshot.payload,
        position=account.position,
        prompt_sha256=prompt.sha256,
    )


def _recent(proposal: Proposal) -> dict[str, Any]:
    """A proposal with what its own terms brought so far, in percent after fees; null where it is not known."""
    score = getattr(proposal, "score", None)
    return {
        "at": proposal.created_at.isoformat(),
        "action": proposal.action,
        "status": proposal.status,
        "own_terms": score.score if score else None,
        "net_pct": _number(score.net_pct) if score else None,
    }


def _number(value: Decimal | None) -> str | None:
    return None if value is None else plain(value)


def position_numbers(position: HeldPosition) -> dict[str, str | None]:
    """Amounts and prices of a position as the advisor is told of them."""
    return {
        "quantity": plain(position.quantity),
        "average_price": plain(position.average_price),
        "stop_price": _number(position.stop_price),
        "target_price": _number(position.target_price),
    }


def _position(position: HeldPosition, now: datetime) -> dict[str, Any]:
    opened = position.opened_at
    age_seconds = None if opened is None else int((now - opened).total_seconds())
    return {
        **position_numbers(position),
        "protected_on_exchange": position.is_protected,
        "age_seconds": age_seconds,
    }
