"""Loaded before Django's settings (`-p tests.environment`): the environment that tests run in."""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tradingbot.settings")
os.environ["SECRET_KEY"] = "not-a-secret-for-tests-only"
os.environ["TRADING_ENVIRONMENT"] = "simulator"
os.environ["TRADING_ENABLED"] = "true"
# Playwright's sync API leaves a running loop in the thread, which the ORM would refuse.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
for name in ("DATABASE_URL", "REDIS_URL"):
    if not os.environ.get(name):
        raise SystemExit(
            f"{name} is not set: run tests with `make test`, or "
            "`.venv/bin/python -m tradingbot.launcher with-servers -- .venv/bin/python -m pytest`"
        )
