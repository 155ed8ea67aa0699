"""The Celery application: every worker and beat starts from here."""

import os
from typing import Any

from celery import Celery
from celery.signals import beat_init, setup_logging, worker_init

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tradingbot.settings")

app = Celery("tradingbot")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
app.set_default()  # announcements are rung from a thread of their own


@setup_logging.connect
def _configure_logging(**_: Any) -> None:
    """Keep Django's logging (with redaction) instead of Celery's own."""
    from logging.config import dictConfig

    from django.conf import settings

    dictConfig(settings.LOGGING)


@worker_init.connect
@beat_init.connect
def _refuse_unmigrated(**_: Any) -> None:
    from tradingbot.core.boot import refuse_unmigrated

    refuse_unmigrated()


if os.environ.get("TRADINGBOT_STREAMS"):
    # By name, so that core.announce, which needs this app, does not import market through it.
    app.steps["worker"].add("market.bootstep:StreamSupervisor")
