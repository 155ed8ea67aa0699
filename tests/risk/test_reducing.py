"""Less of a waiting proposal: a new order of the same prices, judged by every rule, or nothing at all."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from market import selectors as market_selectors
from proposals.contracts import DecisionRefused
from proposals.models import Proposal
from risk import rules, services
from risk.models import Assessment
from tests.conftest import NOW
from tests.risk.passing import AUTONOMY, BUY, FILTERS, LIMITS, PORTFOLIO, QUOTE, order_of

pytestmark = pytest.mark.django_db
Propose = Callable[..., Proposal]
books: dict[str, Any] = {"now": PORTFOLIO}


def portfolio(*, now: Any, excluding: Any) -> Any:
    """Stands where execution fills in the account."""
    return books["now"]


@pytest.fixture
def waiting(propose: Propose, settings: Any) -> Proposal:
    """A purchase of 200 that one person must approve."""
    settings.GATE_PORTFOLIO = "tests.risk.test_reducing.portfolio"
    settings.TRADING_ENABLED = True
    books["now"] = PORTFOLIO
    proposal = propose()
    services.assess_proposal(proposal_id=proposal.pk, portfolio=PORTFOLIO, now=NOW)
    proposal.refresh_from_db()
    assert (proposal.status, proposal.notional_quote) == ("pending_approval", 200)
    return proposal


def reduce(proposal: Proposal, share_pct: int = 50, **changes: Any) -> Proposal:
    arguments = {"version": proposal.version, "digest": proposal.digest, "actor": "ana", "now": NOW}
    return services.reduce_proposal(proposal_id=proposal.pk, share_pct=share_pct, **(arguments | changes))


def code_of(call: Callable[[], Any]) -> str:
    with pytest.raises(DecisionRefused) as caught:
        call()
    return caught.value.code


def test_half_of_it_is_judged_by_every_rule_and_waits(waiting: Proposal) -> None:
    row = reduce(waiting)

    assert (row.status, row.quantity, row.notional_quote) == ("pending_approval", Decimal("0.004"), 100)
    assert [rule["name"] for rule in row.verdict] == [rule.name for rule in rules.RULES]
    assert Assessment.objects.filter(proposal=waiting, binding=True, passed=True).exists()


def test_smaller_order_that_a_rule_denies_changes_nothing(waiting: Proposal) -> None:
    books["now"] = replace(PORTFOLIO, reconciled=False, reconciliation_note="two balances differ")

    with pytest.raises(DecisionRefused, match="two balances differ") as refused:
        reduce(waiting)

    assert refused.value.code == "REFUSED_BY_GATE"
    assert Proposal.objects.get(pk=waiting.pk).digest == waiting.digest


def test_price_is_still_judged_from_where_the_proposal_was(
    waiting: Proposal, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = replace(QUOTE, bid=Decimal(24800), ask=Decimal("24800.5"))
    monkeypatch.setattr(market_selectors, "latest_quote", lambda symbol: gone)

    with pytest.raises(DecisionRefused, match="the price moved"):
        reduce(waiting)


@pytest.mark.parametrize("share_pct", [100, 101, 0, -50])
def test_share_that_is_no_less_is_refused(waiting: Proposal, share_pct: int) -> None:
    assert code_of(lambda: reduce(waiting, share_pct)) == "NOT_SMALLER"


def test_order_shown_before_is_not_reduced_any_more(waiting: Proposal) -> None:
    reduce(waiting)

    assert code_of(lambda: reduce(waiting)) == "STALE_PAGE"


def test_expired_proposal_is_not_reduced(waiting: Proposal) -> None:
    late = waiting.expires_at + timedelta(seconds=1)

    assert code_of(lambda: reduce(waiting, now=late)) == "EXPIRED"


@pytest.mark.parametrize(("share_pct", "quantity"), [(75, "0.006"), (33, "0.00264"), (1, "0.00008")])
def test_share_is_cut_to_the_step_and_costs_are_rounded_up(share_pct: int, quantity: str) -> None:
    less = rules.reduced_order(order_of(), share_pct, FILTERS)

    assert less is not None
    assert less.quantity == Decimal(quantity)
    assert less.notional_quote >= less.quantity * less.worst_price
    assert less.notional_quote - less.quantity * less.worst_price < Decimal("0.00000002")


# --- how many people -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("one", "two", "people"),
    [("1000", "1000", 0), ("200", "1000", 1), ("200", "200", 2), ("1000", "200", 2), ("0", "0", 2),
     ("200.01", "200.01", 0), ("50", "200.01", 1)],
)  # fmt: skip
def test_people_needed_by_the_two_thresholds(one: str, two: str, people: int) -> None:
    limits = replace(LIMITS, approval_threshold_quote=Decimal(one), two_person_threshold_quote=Decimal(two))

    assert rules.people_needed(rules.evaluate(BUY), limits, AUTONOMY) == people


def test_proposal_above_the_second_threshold_needs_two_people(
    propose: Propose, limits: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from risk.models import RiskLimits

    RiskLimits.objects.all().delete()
    limits.pk, limits.version, limits.two_person_threshold_quote = None, 8, Decimal(200)
    limits.save(force_insert=True)
    proposal = propose()

    services.assess_proposal(proposal_id=proposal.pk, portfolio=PORTFOLIO, now=NOW)

    proposal.refresh_from_db()
    assert (proposal.status, proposal.approvals_required) == ("pending_approval", 2)
