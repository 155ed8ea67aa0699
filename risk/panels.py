"""Panels of risk: whether trading is armed, on every page; the gate's rules then and now."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string

from proposals import selectors as proposals
from proposals.contracts import ProposalStatus
from proposals.models import Proposal
from proposals.panels import find_proposal
from risk import selectors, services
from risk.contracts import (
    AUTONOMY_NAMES,
    AUTONOMY_SEEN_WITHIN,
    SCOPE_NAMES,
    KillScope,
    RuleResult,
    TradingState,
)
from risk.models import Autonomy
from tradingbot.core import clock
from tradingbot.core.panels import panel
from tradingbot.core.permissions import Deed, may

KILLS_SHOWN = 20
_VERDICT_ORDER = {"deny": 0, "hold": 1, "pass": 2}


@panel("shell", template="risk/shell.html", topics={"control", "limits", "feed", "autonomy"})
def shell(user: Any, argument: str) -> dict[str, Any]:
    """Environment, the switch, whether an order could go out now and if not why not, the Halt button."""
    armed, reasons = selectors.trading_armed(clock.now())
    state = selectors.trading_state()
    return {
        "armed": armed,
        "reasons": reasons,
        "state": state,
        "halted": state is TradingState.HALTED,
        "may_halt": may(user, Deed.HALT),
        "control": selectors.control(),
        "autonomy": autonomy_shown(),
    }


@dataclass(frozen=True, slots=True)
class ShownAutonomy:
    """The level in plain words; `row` is None before the watch first looked."""

    row: Autonomy | None
    level: str
    words: str
    ways_back: list[str]


def autonomy_shown() -> ShownAutonomy:
    """What the desk may do by itself now, why no more, and the way back."""
    row, seen = selectors.autonomy_row(), selectors.autonomy()
    if row is None or seen is None or abs(clock.now() - seen.seen_at) > AUTONOMY_SEEN_WITHIN:
        words = "The watch over the parts' health has not looked lately: nothing is ordered"
        return ShownAutonomy(row, "unknown", words, ["The trading worker has to run again."])
    return ShownAutonomy(row, seen.level, AUTONOMY_NAMES[seen.level], selectors.ways_back(row))


@panel("control.autonomy", template="risk/autonomy.html", topics={"autonomy", "control"})
def autonomy(user: Any, argument: str) -> dict[str, Any]:
    """Every check of the parts' health, what it lowers to, and the way back."""
    shown = autonomy_shown()
    row = shown.row
    since = {name: datetime.fromisoformat(at) for name, at in row.failing_since.items()} if row else {}
    checks = row.checks if row else []
    return {
        "shown": shown,
        "checks": [check | {"since": since.get(check["name"])} for check in checks],
        "names": AUTONOMY_NAMES,
    }


@panel(
    "control.kill",
    template="risk/kill.html",
    topics={"control", "kill", "order", "position", "proposal", "operator_request"},
)
def kill(user: Any, argument: str) -> dict[str, Any]:
    """The scopes of a kill and what each would touch now."""
    found = selectors.kill_preview(clock.now())
    state = selectors.trading_state()
    return {
        "preview": found,
        "state": state,
        "halted": state is TradingState.HALTED,
        "may_halt": may(user, Deed.HALT),
        "may_flatten": may(user, Deed.OPERATE),
        "may_switch": may(user, Deed.SWITCH),
        "names": {scope.value: name for scope, name in SCOPE_NAMES.items()},
        "environment": settings.TRADING_ENVIRONMENT.value,
    }


@panel("control.kills", template="risk/kills.html", topics={"kill"})
def kills(user: Any, argument: str) -> dict[str, Any]:
    """The last kills: what each found and how long it took."""
    rows = list(selectors.kills()[:KILLS_SHOWN])
    return {"kills": [(row, SCOPE_NAMES[KillScope(row.scope)]) for row in rows]}


@dataclass(frozen=True, slots=True)
class Compared:
    """One rule as it spoke when the order was judged and as it speaks now; either may be missing."""

    name: str
    then: dict[str, str] | None
    now: dict[str, str] | None

    @property
    def said(self) -> dict[str, str]:
        """What is shown once: the word of now where there is one."""
        return self.now or self.then or {}

    @property
    def changed(self) -> bool:
        """Whether the verdict is another one now."""
        return bool(self.then and self.now and self.then.get("verdict") != self.now["verdict"])

    @property
    def rank(self) -> int:
        """The worse of both first."""
        words = [rule.get("verdict", "") for rule in (self.then, self.now) if rule]
        return min(_VERDICT_ORDER.get(word, 0) for word in words)


@panel(
    "proposal.rules",
    template="risk/rules.html",
    topics={"proposal", "control", "limits", "feed"},
    keyed_by="proposal",
)
def verdict(user: Any, argument: str) -> dict[str, Any]:
    """The gate rule by rule; while a person decides, beside it what the binding run would say now.

    A quote does not wake it, which would judge all rules several times a second for every open card: the
    socket's refresh of every 5 s does, and the card itself shows the price as it comes.
    """
    row = find_proposal(argument)
    then = {rule["name"]: rule for rule in row.verdict}
    results = _judged_now(row)
    now = {result.name: result.as_dict() for result in results}
    names = dict.fromkeys([*then, *now])
    rules = sorted((Compared(n, then.get(n), now.get(n)) for n in names), key=lambda rule: rule.rank)
    return {
        "proposal": row,
        "rules": rules,
        "counts": _counts(then.values()),
        "counts_now": _counts(now.values()) if now else None,
        "judged_at": clock.now(),
        "limits_now": selectors.limits_history().values_list("version", flat=True).first(),
    }


def _counts(rules: Any) -> dict[str, int]:
    words = [rule.get("verdict") for rule in rules]
    return {name: words.count(name) for name in _VERDICT_ORDER}


def _judged_now(row: Proposal) -> tuple[RuleResult, ...]:
    """What the gate would say if the order were claimed now; nothing once the proposal waits no longer."""
    now = clock.now()
    if row.status != ProposalStatus.PENDING_APPROVAL or row.expires_at <= now:
        return ()
    try:
        order = proposals.order_of(row)
    except ValueError:
        return ()
    books = import_string(settings.GATE_PORTFOLIO)(now=now, excluding=row.pk)
    return services.judge_now(proposal=row, order=order, portfolio=books, now=now).results
