"""The only place where a status changes: legal by the literal table, guarded, logged, announced."""

from datetime import datetime
from typing import Any, ClassVar, Protocol

from django.db import models
from django.db.models import F, Q

from tradingbot.core import audit
from tradingbot.core.announce import announce


class IllegalTransition(Exception):
    """The table of the model has no such edge."""


class StaleState(Exception):
    """Another process moved the row first, or the guard no longer holds; nothing was changed."""


class Stateful(Protocol):
    """What a model needs for `transition`: `status`, `version`, TRANSITIONS, TOPIC."""

    TRANSITIONS: ClassVar[dict[str, frozenset[str]]]
    TOPIC: ClassVar[str]


def transition(
    row: Any,
    *,
    to: str,
    actor: str,
    now: datetime,
    reason: str = "",
    guard: Q | None = None,
    payload: dict[str, Any] | None = None,
    **changes: Any,
) -> None:
    """Move `row` to status `to` and set `changes`, or raise; the caller holds the transaction.

    The update is guarded by status and version as seen on `row` and by `guard`; `row` itself is brought up to
    date. A model with a column `reason` keeps the reason there as well. Raises IllegalTransition for an edge
    that the table lacks and StaleState when no row moved.
    """
    model: type[models.Model] = type(row)
    seen, target = str(row.status), str(to)
    subject = f"{row.TOPIC}:{row.pk}"
    if reason and hasattr(row, "reason"):
        changes.setdefault("reason", reason)
    if target not in row.TRANSITIONS[seen]:
        raise IllegalTransition(f"{subject}: {seen} -> {target} is not in the table of {model.__name__}")
    moved = model._default_manager.filter(guard or Q(), pk=row.pk, status=seen, version=row.version).update(
        status=target, version=F("version") + 1, **changes
    )
    if moved != 1:
        raise StaleState(f"{subject} is no longer {seen} (version {row.version})")
    audit.record(
        action=f"{row.TOPIC}.{target}",
        subject=subject,
        actor=actor,
        now=now,
        before=seen,
        reason=reason,
        **(payload or {}),
    )
    row.status, row.version = target, row.version + 1
    for name, value in changes.items():
        setattr(row, name, value)
    announce(row.TOPIC, row.pk, event=target)
