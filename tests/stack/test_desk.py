"""The operator's day in a real browser on the running product (issue 2, "The main job", steps 2 and 3)."""

import re

import pytest
from playwright.sync_api import Page, expect

from tests.stack.desk import PHONE, DeskWindow, panel
from tests.stack.person import Operator
from tests.stack.running import RunningStack, wait_for

pytestmark = [pytest.mark.stack, pytest.mark.browser, pytest.mark.timeout(400)]
PROPOSAL_SECONDS_MAX = 180
THRESHOLD = "50"
PAGES = (
    "/",
    "/approvals/",
    "/proposals/",
    "/orders/",
    "/positions/",
    "/alerts/",
    "/reconciliation/",
    "/more/",
)


def test_fresh_product_is_halted(stack: RunningStack) -> None:
    assert stack.control() == "HALTED"
    assert stack.orders_there() == []


def test_operator_takes_a_proposal_from_the_queue_to_a_reconciled_position(
    stack: RunningStack, desk: DeskWindow
) -> None:
    stack.halt()
    see_that_nothing_can_be_approved_while_halted(desk)
    old = arm_in_the_admin(desk)

    queue = desk.open("/approvals/")
    clerk = desk.new_page()
    for proposal_id in old:
        reject(desk, clerk, proposal_id)
    clear_the_queue(stack)
    symbol = buy_one(desk, queue)

    see_its_order(desk)
    see_its_position(desk, symbol)
    see_that_the_books_agree(desk)
    clear_the_queue(stack)
    see_one_that_went_by_itself(desk)
    see_one_that_the_gate_refused(desk)


def buy_one(desk: DeskWindow, queue: Page) -> str:
    """Approve what appears in the queue until one is filled; its symbol.

    A limit order that the market has left behind expires unfilled, which is as it should be.
    """
    seen: set[str] = {f"waiting-{proposal_id}" for proposal_id in desk.waiting(queue)}
    for _ in range(5):
        proposal_id = take_one_from_the_queue(desk, queue, seen)
        read_it(desk, proposal_id)
        desk.hold(desk.page.locator("button[data-command=approve]"))
        end = see_its_fate_without_a_reload(desk)
        desk.stack.exchange("/sim/market", {"paused": False})
        if end == "filled":
            return str(desk.stack.value("SELECT symbol FROM proposals_proposal WHERE id = %s", proposal_id))
        desk.open("/approvals/", queue)
    raise AssertionError("five purchases were approved and none was filled")


def see_that_nothing_can_be_approved_while_halted(desk: DeskWindow) -> None:
    page = desk.open("/approvals/")
    state = page.locator("#trading-state summary")
    expect(state).to_contain_text("HALTED")
    expect(state).to_contain_text("not armed")

    desk.press(page.locator("li[id^=waiting-] a").first)
    desk.settle()
    expect(page.locator("button[data-command=approve]")).to_be_disabled()
    expect(page.locator("#approve-off")).to_contain_text("HALTED")
    desk.picture("halted-proposal")


def arm_in_the_admin(desk: DeskWindow) -> list[str]:
    """A limits version with a threshold, then the switch; the proposals that older limits judged."""
    page = desk.page
    page.goto(f"{desk.stack.url}/admin/risk/risklimits/add/")
    page.get_by_label("Approval threshold quote").fill(THRESHOLD)
    page.get_by_label("Reason").fill("the tour: a person decides from 50 USDT")
    desk.picture("admin-limits")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".messagelist .success")).to_be_visible()

    page.goto(f"{desk.stack.url}/admin/risk/tradingcontrol/simulator/change/")
    page.get_by_label("Status").select_option("ACTIVE")
    page.get_by_label("Reason").fill("the tour: begin")
    desk.picture("admin-control")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.locator(".messagelist .success")).to_be_visible()
    assert desk.stack.control() == "ACTIVE"
    return [str(row[0]) for row in desk.stack.rows(
        "SELECT id FROM proposals_proposal WHERE status = 'pending_approval' AND expires_at > now() AND "
        "limits_version < (SELECT max(version) FROM risk_risklimits WHERE environment = 'simulator')"
    )]  # fmt: skip


def reject(desk: DeskWindow, page: Page, proposal_id: str) -> None:
    desk.open(f"/approvals/{proposal_id}/", page)
    reason = page.locator(".chips label").nth(1)
    words = reason.inner_text().strip().lower()
    desk.press(reason)
    page.get_by_label("Note").fill("judged under the old limits")
    desk.press(page.locator("button[data-command=reject]"))
    outcome = page.locator(".outcome")
    expect(outcome).to_contain_text("Rejected by operator")
    expect(outcome).to_contain_text("judged under the old limits")
    expect(outcome).to_contain_text(words)
    desk.assert_not_reloaded(page)


def take_one_from_the_queue(desk: DeskWindow, queue: Page, seen: set[str]) -> str:
    """Watch the open queue page until a purchase appears on it, and follow it to its page.

    The market stands still from then on: at twenty times its speed a limit would be out of reach at once.
    """
    appeared: list[str] = []
    for _ in range(PROPOSAL_SECONDS_MAX * 5):
        rows = queue.locator("li[id^=waiting-]", has_text="Buys")
        appeared = [row for row in rows.evaluate_all("rows => rows.map(r => r.id)") if row not in seen]
        if appeared:
            break
        queue.wait_for_timeout(200)  # the browser's events go on meanwhile
    assert appeared, f"no new purchase on the queue page within {PROPOSAL_SECONDS_MAX} s"
    desk.stack.exchange("/sim/market", {"paused": True})
    desk.assert_not_reloaded(queue)
    desk.picture("queue", queue)
    desk.press(queue.locator(f"#{appeared[0]} a"))
    desk.settle(queue)
    seen.add(appeared[0])
    return appeared[0].removeprefix("waiting-")


def read_it(desk: DeskWindow, proposal_id: str) -> None:
    page = desk.page
    notional = desk.stack.value("SELECT notional_quote FROM proposals_proposal WHERE id = %s", proposal_id)
    assert notional >= int(THRESHOLD)
    expect(page.locator(".lead").first).to_have_text(
        re.compile(r"(Buys [\d.]+ [A-Z]+ for at most|Sells [\d.]+ [A-Z]+ for at least) [\d.,]+ USDT")
    )
    rules = page.locator("table.rules tbody tr")
    assert rules.count() >= 20
    expect(rules.locator(".badge.good")).to_have_count(rules.count())
    expect(page.locator(".model-text")).to_contain_text("EMA 9")
    expect(page.locator(".mark", has_text="rehearsal model")).to_be_visible()
    desk.picture("proposal")


def see_its_fate_without_a_reload(desk: DeskWindow) -> str:
    """The last step of the timeline that appears by itself: filled or expired."""
    expect(desk.page.locator(".outcome")).to_contain_text("Approved by operator")
    expect(desk.page.locator(".timeline .step", has_text=re.compile("^(filled|expired)$"))).to_be_visible()
    steps = [step for step in desk.steps() if step in {"submitted", "ack", "filled", "expired"}]
    assert steps[:2] == ["submitted", "ack"]
    desk.assert_not_reloaded()
    desk.picture("approved")
    return steps[-1]


def see_its_order(desk: DeskWindow) -> None:
    desk.press(desk.page.get_by_role("link", name=re.compile("^Order ")))
    desk.settle()
    expect(desk.page.locator(".status-line")).to_contain_text("exchange: filled")
    wanted = ["proposed", "validated", "approved", "submitted", "ack", "filled"]
    assert [step for step in desk.steps() if step in wanted] == wanted
    expect(desk.page.locator(".timeline")).to_contain_text("by operator")
    desk.picture("order")


def see_its_position(desk: DeskWindow, symbol: str) -> None:
    """It is held, or was sold again in the meantime; in both cases the fees are told."""
    page = desk.open("/positions/")
    row = page.locator(f"#position-{symbol}, #closed-{symbol}").first
    expect(row).to_contain_text(symbol)
    fees = row.locator("[data-label=Fees]").inner_text()
    assert float(fees.replace(",", "")) > 0
    desk.picture("positions")


def see_that_the_books_agree(desk: DeskWindow) -> None:
    page = desk.open("/reconciliation/")
    last = desk.stack.value("SELECT coalesce(max(id), 0) FROM execution_reconciliationrun")
    desk.press(page.get_by_role("button", name="Compare now"))
    expect(page.locator("tr[id^=run-]").first).not_to_have_id(f"run-{last}")
    expect(page.locator(panel("reconciliation.verdict"))).to_contain_text("0 divergences")
    expect(page.locator(panel("reconciliation"))).to_contain_text("None: our books and the exchange's agree")
    desk.assert_not_reloaded()
    desk.picture("reconciliation")


def clear_the_queue(stack: RunningStack) -> None:
    """Reject what waits: while it does, no other purchase of the same symbol passes the gate."""
    waiting = stack.rows(
        "SELECT id FROM proposals_proposal WHERE status = 'pending_approval' "
        "AND expires_at > now() + interval '15 seconds'"
    )
    for (proposal_id,) in waiting:
        page = stack.get(f"/approvals/{proposal_id}/").text
        form = page.split('<form id="reject-form"')[1].split("</form>")[0]
        stack.post(
            f"/approvals/{proposal_id}/reject/", **dict(re.findall(r'name="(\w+)" value="([^"]+)"', form))
        )


def see_one_that_went_by_itself(desk: DeskWindow) -> None:
    operator = Operator(desk.stack)

    def went_by_itself() -> str | None:
        # A sale of a large position waits 300 s for a person, and no other of its symbol passes the gate meanwhile.
        operator.approve_what_waits()
        found: str | None = desk.stack.value(
            "SELECT p.id FROM proposals_proposal p JOIN execution_executionintent i ON i.proposal_id = p.id "
            "JOIN execution_order o ON o.intent_id = i.id AND o.role = 'order' "
            "WHERE p.status = 'auto_approved' AND o.exchange_status = 'FILLED' AND i.kind = 'proposal'"
        )
        return found

    proposal_id = wait_for(went_by_itself, "a filled order below the threshold", PROPOSAL_SECONDS_MAX)
    page = desk.open(f"/approvals/{proposal_id}/")
    expect(page.locator(".outcome")).to_contain_text(
        "Approved automatically: it is below the approval threshold"
    )
    expect(page.locator(".timeline .step", has_text=re.compile("^filled$")).first).to_be_visible()
    desk.picture("automatic")


def see_one_that_the_gate_refused(desk: DeskWindow) -> None:
    page = desk.open("/proposals/?status=refused")
    row = page.locator("tr[id^=row-]").first
    assert row.locator("[data-label=Reason]").inner_text().strip() not in {"", "—"}
    desk.picture("refused")
    desk.open("/alerts/")
    expect(page.locator("#main")).to_contain_text("The gate refused")
    desk.picture("alerts")


def test_halt_is_on_every_page_and_stops_orders_while_proposals_go_on(
    stack: RunningStack, desk: DeskWindow
) -> None:
    if stack.control() != "ACTIVE":
        arm_in_the_admin(desk)
    for path in PAGES:
        page = desk.open(path)
        expect(page.locator("button[data-command=halt]")).to_be_in_viewport()
        expect(page.locator("button[data-command=halt]")).to_be_enabled()

    desk.press(page.locator("button[data-command=halt]"))

    expect(page.locator("#trading-state summary")).to_contain_text("HALTED")
    expect(page.locator("#status-slot")).to_contain_text("Halted.")
    desk.assert_not_reloaded()
    desk.picture("halted")
    wait_for(lambda: stack.value("SELECT count(*) FROM execution_order WHERE status IN "
                                 "('intent', 'submitted_to_exchange')") == 0, "orders under way")  # fmt: skip
    sent = entries_there(stack)
    last = stack.value("SELECT max(created_at) FROM proposals_proposal")
    wait_for(
        lambda: (
            stack.value(
                "SELECT count(*) FROM proposals_proposal WHERE created_at > %s AND validated_at IS NOT NULL",
                last,
            )
            >= 6
        ),
        "six more proposals through the gate",
        PROPOSAL_SECONDS_MAX,
    )
    assert entries_there(stack) == sent  # protection is not stopped by a halt


def entries_there(stack: RunningStack) -> int:
    """How many purchases the exchange has of ours."""
    return sum(order["side"] == "BUY" for order in stack.orders_there())


@pytest.mark.parametrize("viewport", [PHONE], ids=["phone"], indirect=True)
def test_no_page_scrolls_sideways_on_a_phone(stack: RunningStack, desk: DeskWindow) -> None:
    details = [
        f"/approvals/{stack.value('SELECT id FROM proposals_proposal WHERE quantity > 0')}/",
        f"/approvals/{stack.value('SELECT proposal_id FROM execution_executionintent')}/",
        f"/orders/{stack.value('SELECT id FROM execution_order WHERE executed_quantity > 0')}/",
        f"/reconciliation/{stack.value('SELECT max(id) FROM execution_reconciliationrun')}/",
    ]
    wide = {}
    for path in [*PAGES, *details]:
        page = desk.open(path)
        desk.picture(
            f"page{path.split('/')[1] and '-' + path.split('/')[1]}{'-detail' if path in details else ''}"
        )
        width = page.evaluate("document.documentElement.scrollWidth")
        if width > desk.viewport.width:
            wide[path] = width

    assert wide == {}
