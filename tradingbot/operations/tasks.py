"""Signs of life of the queues, and the watch over all parts. Each is safe to run twice."""

from typing import Any

from celery import shared_task

from tradingbot.core import heartbeats
from tradingbot.core.clock import now
from tradingbot.operations import delivery, services


@shared_task
def canary_trading(**_: Any) -> None:
    """The trading worker takes tasks."""
    heartbeats.beat("queue:trading", now=now())


@shared_task
def canary_streams(**_: Any) -> None:
    """The streams worker takes tasks."""
    heartbeats.beat("queue:streams", now=now())


@shared_task
def canary_advisor(**_: Any) -> None:
    """The advisor worker takes tasks."""
    heartbeats.beat("queue:advisor", now=now())


@shared_task
def canary_alerts(**_: Any) -> None:
    """The alerts worker takes tasks."""
    heartbeats.beat("queue:alerts", now=now())


@shared_task
def deliver_alerts(**_: Any) -> None:
    """Tell people of what is in the outbox. Runs in the alerts worker: nothing else waits for a mail server."""
    delivery.run(now=now())


@shared_task
def tend_alerts(**_: Any) -> None:
    """Let acknowledgements lapse and drop old receipts."""
    delivery.tend(now=now())


@shared_task
def anchor_audit(**_: Any) -> None:
    """Once a day write the end of the audit chain to a file; looked at every ten minutes."""
    services.anchor_audit(now=now())


@shared_task
def watch_health(**_: Any) -> None:
    """Raise and close the alerts about the parts."""
    services.watch_health(now=now())
