"""The project: settings, wiring, ground floor (core) and roof (operations)."""

from tradingbot.celery import app as celery_app

__all__ = ["celery_app"]
