"""One decision: claim the candle, take the snapshot, ask the model, keep what it said (invariant 10).

Three short transactions (claim; snapshot and request; answer and proposal) with the network between them.
Whatever goes wrong ends in a NO_TRADE proposal that holds the code; an earlier answer is never looked at.
"""

import time
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import IntegrityError, connection, transaction

from market import services as market_services
from market.contracts import Interval, MarketError, StaleData
from proposals import rules, selectors
from proposals.adapters import advisor
from proposals.contracts import (
    Action,
    AdvisorUnavailable,
    Answer,
    Completion,
    HeldPosition,
    MalformedAnswer,
    ProposalError,
    ProposalStatus,
    TradeProposal,
)
from proposals.models import Decision, DecisionRequest, Proposal, Strategy
from proposals.selectors import budgets
from proposals.services import breaker
from proposals.services.questions import Question, build_question, position_numbers
from proposals.services.strategies import budget_alert_key
from tradingbot.core import alerts, audit, clock, logs
from tradingbot.core.announce import announce
from tradingbot.core.audit import canonical_json, sha256_hex
from tradingbot.core.transitions import transition

ACTOR = "advisor"
RETRY_PAUSE_SECONDS = 0.5
ATTEMPTS_MAX = 2
PROBE_LEASE_MARGIN_SECONDS = 30
OUTCOME_OK = "OK"
# With these the server did not work on the question; any other failure may have used tokens without telling.
NOT_WORKED_ON = frozenset({"CONNECTION", "AUTH", "QUOTA", "NOT_FOUND", "BAD_REQUEST", "HTTP_429"})


@dataclass(slots=True)
class _Call:
    """What is known of the call so far; filled as it goes, so that a failure keeps what came before it."""

    began_at: datetime
    began_seconds: float
    attempts: int = 0
    untold: int = 0
    position: HeldPosition | None = None
    answer: Answer | None = None
    completion: Completion | None = None

    def now(self) -> datetime:
        """The caller's `now` moved on by the time that the call has taken."""
        return self.began_at + timedelta(seconds=clock.monotonic_seconds() - self.began_seconds)


def advise(*, strategy: Strategy, symbol: str, now: datetime) -> Proposal | None:
    """Decide on the latest closed candle of `symbol`; the proposal (often NO_TRADE) that came of it.

    Whoever waits for a decision on it gets this one. None when there is nothing to decide: no new candle and
    nobody asked, another worker took it, too soon, hour used up.
    """
    call = _Call(began_at=now, began_seconds=clock.monotonic_seconds())
    decision = _claim(strategy, symbol, now)
    if decision is None:
        return None
    if decision.finished_at is not None:
        return decision.proposal
    trade: TradeProposal | None = None
    failure: ProposalError | None = None
    try:
        question = _prepare(decision, now)
        call.position = question.position
        call.answer = _ask(decision, question, call)
        call.completion = rules.read_answer(question.request, call.answer)
        text = rules.text_of(call.completion)
        trade = rules.parse_answer(text, payload=question.payload, position=question.position)
    except (AdvisorUnavailable, MalformedAnswer) as error:
        failure = error
    return _conclude(decision, call, trade, failure)


# --- claim -----------------------------------------------------------------------------------------------
def _claim(strategy: Strategy, symbol: str, now: datetime) -> Decision | None:
    """The row of a decision that is ours alone to make; one at a time per symbol, once per candle."""
    with transaction.atomic():
        one_at_a_time(strategy, symbol)
        asked = selectors.waiting_requests(now).filter(strategy=strategy, symbol=symbol)
        candle = selectors.candle_to_decide(strategy, symbol, now)
        on_demand = candle is None and asked.exists()
        if on_demand:
            candle = selectors.candle_on_demand(strategy, symbol, now)
        if candle is None:
            return None
        try:
            with transaction.atomic():
                decision = Decision.objects.create(
                    environment=settings.TRADING_ENVIRONMENT,
                    strategy=strategy,
                    symbol=symbol,
                    candle_open_time=candle.open_time,
                    shadow=strategy.shadow,
                    on_demand=on_demand,
                    prompt_version=strategy.prompt_version,
                    model_requested=strategy.model or settings.ADVISOR_MODEL,
                    started_at=now,
                )
        except IntegrityError:
            return None
        if asked.update(decision=decision):
            announce(DecisionRequest.TOPIC, decision.pk, event="taken")
        _end_if_spent(decision, now)
        return decision


def _end_if_spent(decision: Decision, now: datetime) -> None:
    """Close the new decision with the reason when its strategy may make no further call.

    Under the lock of the strategy's row, so that of two decisions at once the second one counts the first.
    """
    strategy = Strategy.objects.select_for_update(no_key=True).get(pk=decision.strategy_id)
    used = budgets.used_by(strategy, now, but=decision)
    refused = rules.why_no_call(budgets.budget_of(strategy), used, decision.model_requested)
    key = budget_alert_key(strategy)
    if refused is None:
        alerts.resolve_alerts(dedupe_key=key, now=now)
        return
    code, detail = refused
    close_without_trade(decision=decision, code=code, detail=detail, actor=ACTOR, now=now)
    alerts.raise_alert(
        kind="advisor_budget",
        severity="info" if decision.shadow else "high",
        subject=f"strategy:{strategy.pk}",
        dedupe_key=key,
        title=f"The strategy {strategy.name} may not ask its model: no trades are proposed",
        detail=f"{code}: {detail}",
        now=now,
    )


def one_at_a_time(strategy: Strategy, symbol: str) -> None:
    """Hold back other claims and requests on `symbol` until this transaction ends; of shadows all."""
    held = "shadow" if strategy.shadow else symbol
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))",
            [f"proposals.decision:{settings.TRADING_ENVIRONMENT}:{held}"],
        )


# --- ask -------------------------------------------------------------------------------------------------
def _prepare(decision: Decision, now: datetime) -> Question:
    """Take the snapshot and build the request; AdvisorUnavailable (STALE_DATA, NO_MARKET, PROMPT_MISSING)."""
    strategy = decision.strategy
    try:
        snapshot = market_services.take_snapshot(
            symbol=decision.symbol, interval=Interval(strategy.interval), now=now
        )
    except StaleData as error:
        raise AdvisorUnavailable("STALE_DATA", str(error)) from error
    except MarketError as error:
        raise AdvisorUnavailable("NO_MARKET", str(error)) from error
    decision.snapshot = snapshot
    decision.save(update_fields=["snapshot"])
    return build_question(strategy=strategy, snapshot=snapshot, now=now)


def _ask(decision: Decision, question: Question, call: _Call) -> Answer:
    """Ask through the breaker. The request is on record before it leaves."""
    name = breaker.name_of(model=question.request["model"], shadow=decision.shadow)
    lease_seconds = settings.ADVISOR_TIMEOUT_SECONDS + PROBE_LEASE_MARGIN_SECONDS
    token = breaker.enter_breaker(
        name=name, lease_seconds=lease_seconds, shadow=decision.shadow, now=call.now()
    )
    decision.request = question.request
    decision.request_sha256 = sha256_hex(canonical_json(question.request))
    decision.prompt_sha256 = question.prompt_sha256
    decision.save(update_fields=["request", "request_sha256", "prompt_sha256"])
    try:
        answer = _ask_at_most_twice(question.request, call)
    except AdvisorUnavailable as error:
        breaker.report_failure(name=name, token=token, reason=str(error), now=call.now())
        raise
    breaker.report_answer(name=name, token=token, now=call.now())
    return answer


def _ask_at_most_twice(request: dict[str, Any], call: _Call) -> Answer:
    """One retry of a transient failure, as far as ADVISOR_TIMEOUT_SECONDS for both together allow it."""
    deadline = call.began_seconds + settings.ADVISOR_TIMEOUT_SECONDS
    while True:
        call.attempts += 1
        left_seconds = max(deadline - clock.monotonic_seconds(), 1.0)
        try:
            return advisor.ask(request, base_url=settings.OPENAI_BASE_URL, timeout_seconds=left_seconds)
        except AdvisorUnavailable as error:
            call.untold += error.code not in NOT_WORKED_ON
            pause_seconds = max(error.retry_after_seconds or 0.0, RETRY_PAUSE_SECONDS)
            left_seconds = deadline - clock.monotonic_seconds() - pause_seconds
            if call.attempts >= ATTEMPTS_MAX or not error.transient or left_seconds < 1.0:
                raise
            time.sleep(pause_seconds)


# --- conclude --------------------------------------------------------------------------------------------
def _conclude(
    decision: Decision, call: _Call, trade: TradeProposal | None, failure: ProposalError | None
) -> Proposal:
    """Store the answer and the proposal. A decision that was closed as interrupted meanwhile stays closed."""
    now = call.now()
    with transaction.atomic():
        current = Decision.objects.select_for_update().get(pk=decision.pk)
        if current.finished_at is not None:
            return current.proposal
        _keep_answer(decision, call)
        count_use(decision, untold=call.untold + (call.answer is not None and not _is_told(decision)))
        if trade is None:
            code, detail = getattr(failure, "code", ""), getattr(failure, "detail", "")
            return close_without_trade(decision=decision, code=code, detail=detail, actor=ACTOR, now=now)
        if not _is_wanted(decision):
            detail = f"{decision.strategy.name} ceased to ask about {decision.symbol} meanwhile"
            return close_without_trade(
                decision=decision, code="SWITCHED_OFF", detail=detail, actor=ACTOR, now=now
            )
        return _propose(decision, trade, call.position, now)


def _is_wanted(decision: Decision) -> bool:
    """Whether the strategy, as its row is now, still asks for what was decided: edits bind from when they are saved."""
    strategy = Strategy.objects.get(pk=decision.strategy_id)
    may_be_queued = decision.shadow or not strategy.shadow
    return strategy.enabled and decision.symbol in strategy.symbols and may_be_queued


def _keep_answer(decision: Decision, call: _Call) -> None:
    decision.attempts = call.attempts
    if call.answer is not None:
        # A server may echo what it was sent: the key must not reach the row. NUL is not a character there.
        body = logs.redact(call.answer.body).replace("\0", "\ufffd")
        decision.response_text, decision.response_sha256 = body, sha256_hex(body)
        decision.request_id, decision.latency_ms = call.answer.request_id, call.answer.latency_ms
    if call.completion is not None:
        decision.model_answered = call.completion.model_answered
        decision.prompt_tokens = call.completion.prompt_tokens
        decision.completion_tokens = call.completion.completion_tokens


def _is_told(decision: Decision) -> bool:
    return decision.prompt_tokens is not None and decision.completion_tokens is not None


def count_use(decision: Decision, *, untold: int) -> None:
    """Set what the decision counts against its strategy's budget, by the price of now.

    `untold`: requests that the server may have worked on without telling what they used.
    """
    told = (decision.prompt_tokens, decision.completion_tokens)
    tokens = rules.tokens_of_call(told, untold)
    price = budgets.price_of(decision.model_requested)
    decision.counted_tokens = sum(tokens)
    decision.cost_usd = rules.cost_usd(*tokens, price) if price else None


def _propose(
    decision: Decision, trade: TradeProposal, position: HeldPosition | None, now: datetime
) -> Proposal:
    """The proposal of a valid answer: for the gate to judge, or NO_TRADE by the model's own choice."""
    decision.outcome, decision.finished_at = OUTCOME_OK, now
    decision.save()
    content = trade.model_dump(mode="json")
    proposal = _create(
        decision,
        now,
        action=trade.action,
        answer=content,
        reasons=trade.reasons,
        confidence_pct=trade.confidence_pct,
        held=_held(position) if trade.action == Action.SELL else None,
        expires_at=now + timedelta(seconds=trade.valid_for_seconds),
    )
    if trade.action == Action.NO_TRADE:
        reason = f"{trade.no_trade_reason}: the advisor sees no trade"
        transition(proposal, to=ProposalStatus.NO_TRADE, actor=ACTOR, now=now, reason=reason, refusal=reason)
    else:
        announce(Proposal.TOPIC, proposal.pk, event=ProposalStatus.PROPOSED)
    return proposal


def _held(position: HeldPosition | None) -> dict[str, str | None]:
    assert position is not None  # parse_answer refuses a SELL of nothing
    told = position_numbers(position)
    return {name: told[name] for name in ("quantity", "stop_price", "target_price")}


def close_without_trade(*, decision: Decision, code: str, detail: str, actor: str, now: datetime) -> Proposal:
    """End `decision` with `code` and give it its NO_TRADE proposal; the caller holds transaction and row."""
    detail = logs.redact(detail)
    decision.outcome, decision.outcome_detail, decision.finished_at = code[:48], detail, now
    decision.save()
    proposal = _create(
        decision, now, action=Action.NO_TRADE, answer={"code": code, "detail": detail}, expires_at=now
    )
    reason = f"{code}: {detail}"
    transition(proposal, to=ProposalStatus.NO_TRADE, actor=actor, now=now, reason=reason, refusal=reason)
    return proposal


def _create(decision: Decision, now: datetime, **content: Any) -> Proposal:
    proposal = Proposal.objects.create(
        id=uuid.uuid4(),
        environment=decision.environment,
        decision=decision,
        shadow=decision.shadow,
        symbol=decision.symbol,
        created_at=now,
        **content,
    )
    audit.record(
        action="proposal.proposed",
        subject=f"{Proposal.TOPIC}:{proposal.pk}",
        actor=ACTOR,
        now=now,
        decision=str(decision.pk),
        strategy=decision.strategy.name,
        model=decision.model_answered or decision.model_requested,
        outcome=decision.outcome,
        request_sha256=decision.request_sha256,
        response_sha256=decision.response_sha256,
        answer=proposal.answer,
    )
    return proposal
