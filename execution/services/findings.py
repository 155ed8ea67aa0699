"""Findings of a reconciliation run and the divergences they become: one row from first sight to its close."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from execution import selectors
from execution.contracts import DivergenceKind, Outcome
from execution.models import Divergence, ReconciliationRun
from tradingbot.core import audit
from tradingbot.core.alerts import raise_alert, resolve_alerts
from tradingbot.core.announce import announce

# What no later run looks at again: a person closes it.
CLOSED_BY_PERSONS = frozenset({DivergenceKind.FOREIGN_ORDER, DivergenceKind.FEE})


@dataclass(slots=True)
class Finding:
    """A difference with the records that prove it; `subject` identifies it from run to run.

    `settled` says what was done when the exchange's record proved it, and closes it at once.
    """

    kind: DivergenceKind
    subject: str
    symbol: str
    ours: dict[str, Any]
    theirs: dict[str, Any]
    likely_cause: str
    amount: Decimal | None = None
    amount_asset: str = ""
    settled: str = ""


def store_findings(run: ReconciliationRun, findings: Sequence[Finding], now: datetime) -> None:
    """Record what this run saw; the caller holds the transaction."""
    told_before = set(
        Divergence.objects.filter(
            environment=selectors.ENVIRONMENT, subject__in={finding.subject for finding in findings}
        ).values_list("kind", "subject")
    )
    fresh = {
        (finding.kind.value, finding.subject): finding
        for finding in findings
        if finding.settled and (finding.kind.value, finding.subject) not in told_before
    }
    if fresh:
        _store_settled(run, list(fresh.values()), now)
    for finding in findings:
        if (finding.kind.value, finding.subject) not in fresh:
            _store(run, finding, now)


def close_unseen(run: ReconciliationRun, findings: Sequence[Finding], now: datetime) -> None:
    """Close what is open and what this whole run, which found `findings`, did not see any more."""
    seen = {(finding.kind.value, finding.subject) for finding in findings}
    for divergence in Divergence.objects.filter(environment=selectors.ENVIRONMENT, closed_at__isnull=True):
        if (divergence.kind, divergence.subject) not in seen and divergence.kind not in CLOSED_BY_PERSONS:
            close(divergence, run=run, outcome=Outcome.GONE, resolution="no longer observed", now=now)


def _store_settled(run: ReconciliationRun, findings: Sequence[Finding], now: datetime) -> None:
    """Differences that were never told before and are settled already: on record at once as closed."""
    rows = Divergence.objects.bulk_create(
        Divergence(
            **_columns(finding, run, now),
            kind=finding.kind,
            subject=finding.subject,
            environment=selectors.ENVIRONMENT,
            closed_at=now,
            closed_by="reconciliation",
            outcome=Outcome.POSTED,
            resolution=finding.settled[:300],
        )
        for finding in findings
    )
    for row, finding in zip(rows, findings, strict=True):
        _audit(row, finding, now)
        announce("divergence", row.pk)


def _columns(finding: Finding, run: ReconciliationRun, now: datetime) -> dict[str, Any]:
    return {
        "symbol": finding.symbol,
        "ours": finding.ours,
        "theirs": finding.theirs,
        "amount": finding.amount,
        "amount_asset": finding.amount_asset,
        "likely_cause": finding.likely_cause,
        "first_run": run,
        "last_run": run,
        "first_seen_at": now,
        "last_seen_at": now,
    }


def _audit(divergence: Divergence, finding: Finding, now: datetime) -> None:
    audit.record(
        action=f"divergence.{finding.kind.value}",
        subject=f"divergence:{divergence.pk}",
        actor="reconciliation",
        now=now,
        ours=finding.ours,
        theirs=finding.theirs,
    )


def _was_settled_by_person(finding: Finding) -> bool:
    """What a person settled is not reported again: a foreign order never, anything else while it is the same."""
    settled = Divergence.objects.filter(
        environment=selectors.ENVIRONMENT,
        kind=finding.kind,
        subject=finding.subject,
        closed_at__isnull=False,
    ).order_by("-id")
    if finding.kind is DivergenceKind.FOREIGN_ORDER:
        return settled.exists()
    last = settled.first()
    return last is not None and last.outcome == Outcome.IGNORED and _is_same(last, finding)


def _is_same(divergence: Divergence, finding: Finding) -> bool:
    if finding.kind is DivergenceKind.BALANCE:  # the totals move with every trade, the difference does not
        return divergence.amount == finding.amount
    return divergence.theirs == finding.theirs and divergence.ours == finding.ours


def _store(run: ReconciliationRun, finding: Finding, now: datetime) -> None:
    if _was_settled_by_person(finding):
        return
    divergence, created = Divergence.objects.get_or_create(
        environment=selectors.ENVIRONMENT,
        kind=finding.kind,
        subject=finding.subject,
        closed_at=None,
        defaults=_columns(finding, run, now),
    )
    if created:
        _audit(divergence, finding, now)
    else:
        _see_again(divergence, run, finding, now)
    if finding.settled:
        close(divergence, run=run, outcome=Outcome.POSTED, resolution=finding.settled, now=now)
        return
    raise_alert(
        kind="divergence",
        severity="critical",
        subject=f"divergence:{divergence.pk}",
        title=f"Divergence: {finding.kind.value.replace('_', ' ')} {finding.symbol or finding.amount_asset}",
        detail=finding.likely_cause,
        now=now,
    )
    announce("divergence", divergence.pk)


def _see_again(divergence: Divergence, run: ReconciliationRun, finding: Finding, now: datetime) -> None:
    """Bring the row up to date; its version rises when a person would now decide on something else."""
    same = _is_same(divergence, finding)
    Divergence.objects.filter(pk=divergence.pk).update(
        ours=finding.ours,
        theirs=finding.theirs,
        amount=finding.amount,
        last_run=run,
        last_seen_at=now,
        version=divergence.version + (0 if same else 1),
    )


def close(
    divergence: Divergence,
    *,
    outcome: Outcome,
    resolution: str,
    now: datetime,
    run: ReconciliationRun | None = None,
    actor: str = "reconciliation",
) -> None:
    """Close an open divergence; one that is closed stays as it was closed."""
    Divergence.objects.filter(pk=divergence.pk, closed_at__isnull=True).update(
        closed_at=now,
        closed_by=actor,
        outcome=outcome,
        resolution=resolution[:300],
        last_run=run or divergence.last_run,
        version=divergence.version + 1,
    )
    resolve_alerts(dedupe_key=f"divergence:divergence:{divergence.pk}", now=now)
    announce("divergence", divergence.pk)
