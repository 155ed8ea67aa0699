"""The alerts page in Chromium: installable, told by push, and honest when the desk is out of reach."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, CDPSession, Page, expect

from tests.operations.push_service import Browser, Sink, running_sink
from tests.web.conftest import DEADLINE_SECONDS, NARROW, WIDE, Server, Watched, wait_for
from tradingbot.core import alerts, clock
from tradingbot.core.models import AlertChannel
from tradingbot.operations import delivery

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
ACTIVE = "() => navigator.serviceWorker.ready.then((r) => ({scope: r.scope, state: r.active.state}))"


@pytest.fixture(autouse=True)
def own_files(tmp_path: Path, settings: Any) -> None:
    settings.ALERT_SECRETS_DIR = tmp_path / "alert-channels"


@pytest.fixture
def sink() -> Iterator[Sink]:
    with running_sink() as server:
        yield server


def open_alerts(watched: Watched) -> Page:
    page = watched.open("/alerts/")
    page.wait_for_selector("body[data-link=live]")
    page.wait_for_function("() => navigator.serviceWorker.controller")
    return page


@pytest.mark.parametrize("browser_context", [NARROW, WIDE], indirect=True, ids=["phone", "desk"])
def test_the_page_can_be_installed_and_its_worker_answers_for_the_whole_desk(watched: Watched) -> None:
    page = open_alerts(watched)

    active = page.evaluate(ACTIVE)
    manifest = page.context.new_cdp_session(page).send("Page.getAppManifest")

    assert active["scope"] == f"{watched.server.url}/"
    assert manifest["errors"] == []
    stated = json.loads(manifest["data"])
    assert (stated["start_url"], stated["scope"], stated["display"]) == ("/alerts/", "/", "standalone")
    for icon in stated["icons"]:
        size = page.evaluate(
            "(src) => new Promise((done) => { const i = new Image(); i.onload = () => done(i.naturalWidth); "
            "i.onerror = () => done(0); i.src = '/static/' + src; })",
            icon["src"],
        )
        assert f"{size}x{size}" == icon["sizes"]
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]  # type: ignore[index]


def test_the_worker_keeps_no_page_and_says_offline_when_the_desk_is_out_of_reach(
    watched: Watched, browser_context: BrowserContext
) -> None:
    page = open_alerts(watched)
    for path in ("/", "/orders/", "/alerts/"):
        page.goto(watched.server.url + path)
    assert page.evaluate("caches.keys()") == []

    browser_context.set_offline(True)
    page.goto(watched.server.url + "/orders/")

    expect(page.get_by_role("heading", name="Offline")).to_be_visible()
    browser_context.set_offline(False)
    page.goto(watched.server.url + "/orders/")
    expect(page.get_by_role("heading", name="Orders", exact=True)).to_be_visible()
    watched.faults.clear()  # being offline is one


def push(page: Page, server: Server, data: str) -> None:
    """What a push service hands to the browser."""
    session: CDPSession = page.context.new_cdp_session(page)
    found: list[str] = []
    session.on(
        "ServiceWorker.workerRegistrationUpdated",
        lambda event: found.extend(row["registrationId"] for row in event["registrations"]),
    )
    session.send("ServiceWorker.enable")
    end = clock.monotonic_seconds() + DEADLINE_SECONDS
    while not found and clock.monotonic_seconds() < end:
        page.wait_for_timeout(50)
    session.send(
        "ServiceWorker.deliverPushMessage",
        {"origin": server.url, "registrationId": found[0], "data": data},
    )


NOTIFICATIONS = (
    "() => navigator.serviceWorker.ready.then((r) => r.getNotifications())"
    ".then((n) => n.map((x) => ({title: x.title, body: x.body, path: x.data.path, actions: x.actions || []})))"
)


@pytest.mark.parametrize(
    ("data", "title"),
    [
        (json.dumps({"title": "critical: Books differ", "body": "BTC", "path": "/alerts/#alert-1", "tag": "a"}),
         "critical: Books differ"),
        ("not json", "tradingbot: an alert"),
    ],
    ids=["message", "unreadable"],
)  # fmt: skip
def test_a_push_shows_a_notification_without_any_button_that_acts(
    watched: Watched, browser_context: BrowserContext, data: str, title: str
) -> None:
    browser_context.grant_permissions(["notifications"], origin=watched.server.url)
    page = open_alerts(watched)

    push(page, watched.server, data)

    (shown,) = wait_for(lambda: page.evaluate(NOTIFICATIONS))
    assert shown["title"] == title
    assert shown["actions"] == []


# A script may not open or focus a window unless a person clicked, and no person can click in a headless browser:
# the event is made by hand, and the two calls that need the person are noted instead of carried out.
CLICK = """async (path) => {
  const done = [], waited = [];
  self.clients.openWindow = async (url) => { done.push(["opened", url]); };
  WindowClient.prototype.focus = async function () { done.push(["focused", this.url]); };
  await self.registration.showNotification("critical: Books differ", {tag: "a", data: path === null ? null : {path}});
  const [notification] = await self.registration.getNotifications({tag: "a"});
  const click = new NotificationEvent("notificationclick", {notification});
  click.waitUntil = (promise) => waited.push(promise);
  self.dispatchEvent(click);
  await Promise.all(waited);
  const left = (await self.registration.getNotifications({tag: "a"})).length;
  return {done, waited: waited.length, left};
}"""


def click_notification(page: Page, path: str | None) -> list[list[str]]:
    """What the service worker does when a notification with `path` is clicked."""
    (worker,) = wait_for(lambda: page.context.service_workers)
    found = worker.evaluate(CLICK, path)
    assert (found["waited"], found["left"]) == (1, 0)  # the browser is told to wait, the notification is gone
    done: list[list[str]] = found["done"]
    return done


@pytest.fixture
def elsewhere(watched: Watched, browser_context: BrowserContext) -> Page:
    """A page that is not the one of the alerts, answered for by the worker."""
    browser_context.grant_permissions(["notifications"], origin=watched.server.url)
    page = open_alerts(watched)
    page.goto(f"{watched.server.url}/orders/")
    page.wait_for_function("() => navigator.serviceWorker.controller")
    return page


def test_a_click_on_a_notification_opens_its_page(watched: Watched, elsewhere: Page) -> None:
    alert = f"{watched.server.url}/alerts/#alert-1"

    assert click_notification(elsewhere, "/alerts/#alert-1") == [["opened", alert]]
    assert click_notification(elsewhere, alert) == [["opened", alert]]


def test_a_click_on_a_notification_goes_to_the_page_where_it_is_open(
    watched: Watched, elsewhere: Page
) -> None:
    elsewhere.goto(f"{watched.server.url}/alerts/")

    assert click_notification(elsewhere, "/alerts/#alert-1") == [["focused", f"{watched.server.url}/alerts/"]]


@pytest.mark.parametrize(
    "path",
    [
        "https://desk.example/alerts/", "//desk.example/alerts/", "/\\desk.example/", "javascript:alert(1)",
        "data:text/html,hello", "http://127.0.0.1:1/alerts/", "http://[", "", None,
    ],
)  # fmt: skip
def test_a_click_on_a_notification_never_leaves_the_desk(
    watched: Watched, elsewhere: Page, path: str | None
) -> None:
    assert click_notification(elsewhere, path) == [["opened", f"{watched.server.url}/alerts/"]]


def test_a_device_subscribes_on_the_page_and_is_told_of_the_next_alert(
    watched: Watched, browser_context: BrowserContext, sink: Sink, settings: Any
) -> None:
    settings.PUSH_HOSTS = (f"127.0.0.1:{sink.port}",)
    device = Browser(f"http://127.0.0.1:{sink.port}/send/phone")
    browser_context.grant_permissions(["notifications"], origin=watched.server.url)
    # There is no push service here that Chromium would subscribe at; everything else is real.
    watched.page.add_init_script(
        "PushManager.prototype.subscribe = async (options) => "
        f"{{ window.asked = options; return {device.subscription}; }};"
        "PushManager.prototype.getSubscription = async () => null;"
    )
    page = open_alerts(watched)

    page.get_by_role("button", name="Tell this device of alerts").click()

    expect(page.locator("#device-says")).to_contain_text("This device is told from now on")
    assert page.evaluate("window.asked.userVisibleOnly && window.asked.applicationServerKey.length") == 65
    row = AlertChannel.objects.get()
    assert (row.owner, row.kind) == ("ana", "webpush")
    alerts.raise_alert(kind="divergence", severity="critical", title="Books differ", now=clock.now())
    wait_for(lambda: delivery.run(now=clock.now()) or sink.received)
    told = json.loads(device.decrypt(sink.received[0][2]))
    assert "Books differ" in told["title"]
    expect(page.locator(f"#channel-{row.pk}")).to_contain_text("sent")


def test_a_test_is_sent_from_the_page_and_its_receipt_appears(watched: Watched, sink: Sink) -> None:
    from tradingbot.operations import channels

    row = AlertChannel(name="webhook")
    channels.save_channel(
        channel=row, address=f"json://127.0.0.1:{sink.port}/x", actor="rita", now=clock.now()
    )
    page = open_alerts(watched)

    page.get_by_role("button", name="Send a test").click()
    expect(page.locator(f"#channel-{row.pk}")).to_contain_text("on its way")
    delivery.run(now=clock.now())

    expect(page.locator(f"#channel-{row.pk}")).to_contain_text("test by ana")
    expect(page.locator(f"#channel-{row.pk} .good")).to_have_text("sent")


def test_an_alert_is_silenced_on_the_page(watched: Watched) -> None:
    alert = alerts.raise_alert(kind="divergence", severity="high", title="Books differ", now=clock.now())
    page = open_alerts(watched)

    page.locator(f"#silence-{alert} summary").click()
    page.locator(f"#silence-reason-{alert}").fill("known since noon")
    page.get_by_role("button", name="Tell nobody meanwhile").click()

    expect(page.locator(f"#alert-{alert}")).to_contain_text("Nobody is told until")
    expect(page.locator("#panel-alerts\\.silences")).to_contain_text("known since noon")
