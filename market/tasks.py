"""Celery tasks of market data."""

from typing import Any

from celery import shared_task

from market import services
from tradingbot.core import clock


@shared_task
def refresh_instruments(**_: Any) -> None:
    """Read the filters of all symbols anew."""
    services.refresh_instruments(now=clock.now())


@shared_task
def drop_old(**_: Any) -> None:
    """Drop candles, trades and connections that are older than they are kept; make room for the next days."""
    services.drop_old(now=clock.now())
