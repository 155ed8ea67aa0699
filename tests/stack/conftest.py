"""The product, started once for all tests here, and windows of a real browser on it."""

import os
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import psycopg
import pytest
from playwright.sync_api import Browser

from tests.launcher.conftest import server_folder
from tests.stack.desk import PHONE, WIDE, DeskWindow, Viewport
from tests.stack.running import ROOT, STOP_SECONDS_MAX, RunningStack


@pytest.fixture(scope="module")
def stack(artifacts: Path) -> Iterator[RunningStack]:
    """The running product with data of its own; it must end within its time and leave nothing behind."""
    with server_folder() as folder:
        running = RunningStack(folder)
        try:
            running.start()
            running.quicken()
            yield running
            if running.is_running:
                assert running.stop() <= STOP_SECONDS_MAX
        finally:
            running.kill_all()
            shutil.copytree(running.data / "logs", artifacts / "logs", dirs_exist_ok=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put the product's own account of itself under each failure, while its database is there to be asked."""
    report = yield
    running = getattr(item, "funcargs", {}).get("stack")
    if report.failed and isinstance(running, RunningStack):
        try:
            report.sections.append(("what the product says", running.account_of_itself()))
        except psycopg.Error as error:
            report.sections.append(("what the product says", f"its database does not answer: {error}"))
    return report


@pytest.fixture(scope="session")
def artifacts() -> Path:
    """Where screenshots and the logs of the parts go."""
    folder = Path(os.environ.get("CI_ARTIFACTS") or ROOT / "test-artifacts") / "stack"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(params=[WIDE, PHONE], ids=lambda viewport: viewport.name)
def viewport(request: pytest.FixtureRequest) -> Viewport:
    """A desktop window and a phone."""
    chosen: Viewport = request.param
    return chosen


@pytest.fixture
def desk(stack: RunningStack, chromium: Browser, viewport: Viewport, artifacts: Path) -> Iterator[DeskWindow]:
    """A window of the operator, signed in; what a page must not do fails the test at its end."""
    window = DeskWindow(chromium, stack, viewport, artifacts)
    window.sign_in()
    yield window
    window.close()
    assert window.faults == []
