"""Fixtures for all tests: real Postgres, real Redis."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis
from django.conf import settings
from django.db import connection
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from playwright.sync_api import Browser, sync_playwright

from tests.exchange import SimulatedExchange

CHROMIUM = Path("/usr/bin/chromium")
CHROMIUM_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
]
NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)

# A busy machine is slow at drawing examples; that says nothing of the code under test.
hypothesis_settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("any machine")


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: pytest.FixtureRequest) -> None:  # type: ignore[type-arg]
    """Transactional tests empty the tables by TRUNCATE, which the audit log refuses: lift that here only."""
    with django_db_blocker.unblock(), connection.cursor() as cursor:  # type: ignore[attr-defined]
        cursor.execute("ALTER TABLE core_auditrecord DISABLE TRIGGER core_audit_no_truncate")
        cursor.execute("GRANT TRUNCATE ON core_auditrecord, core_audithead TO CURRENT_USER")


@pytest.fixture
def now() -> datetime:
    """A fixed instant that tests pass down as `now`."""
    return NOW


@pytest.fixture
def redis_server() -> Iterator[redis.Redis]:
    """The real Redis of the tests, emptied before and after."""
    client = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=5)
    client.flushdb()
    yield client
    client.flushdb()
    client.close()


@pytest.fixture(scope="session")
def simulator() -> Iterator[SimulatedExchange]:
    """The exchange as a process of its own, for all tests of the session."""
    exchange = SimulatedExchange(settings.SIMULATOR_URL)
    exchange.start()
    yield exchange
    exchange.stop()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Browser tests come last: Playwright leaves an event loop running in the thread until the session ends."""
    items.sort(key=lambda item: item.get_closest_marker("browser") is not None)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, one for all browser tests; without it they fail, they are not skipped."""
    if not CHROMIUM.exists():
        pytest.fail(
            f"There is no {CHROMIUM}: sudo apt-get install chromium fonts-noto-core, or run `make test` as root."
        )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGS)
        yield browser
        browser.close()
