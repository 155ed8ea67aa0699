"""Loaded before Django's settings (`-p tests.environment`): the environment that tests run in."""

import os
import socket
import tempfile
from pathlib import Path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tradingbot.settings")
os.environ["SECRET_KEY"] = "not-a-secret-for-tests-only"
os.environ["TRADING_ENVIRONMENT"] = "simulator"
os.environ["TRADING_ENABLED"] = "true"
# Where tests.exchange starts the simulator; client classes read the address when they are imported.
os.environ["SIMULATOR_URL"] = f"http://127.0.0.1:{_free_port()}"
# The key of the account that a test trades on is written here (tests.exchange).
KEYS = Path(tempfile.mkdtemp(prefix="tradingbot-test-keys-"))
os.environ["BINANCE_SIMULATOR_API_KEY_FILE"] = str(KEYS / "key")
os.environ["BINANCE_SIMULATOR_API_SECRET_FILE"] = str(KEYS / "secret")
os.environ["EXCHANGE_TIMEOUT_SECONDS"] = "3"
os.environ["DATA_DIR"] = tempfile.mkdtemp(prefix="tradingbot-test-data-")
# Playwright's sync API leaves a running loop in the thread, which the ORM would refuse.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
for name in ("DATABASE_URL", "REDIS_URL"):
    if not os.environ.get(name):
        raise SystemExit(
            f"{name} is not set: run tests with `make test`, or "
            "`.venv/bin/python -m tradingbot.launcher with-servers -- .venv/bin/python -m pytest`"
        )
