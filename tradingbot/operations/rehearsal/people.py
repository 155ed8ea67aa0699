"""The people of a rehearsal: they approve late, twice or not at all, halt, put resting entries at another price
or cancel them, book what came from outside, and decide what waits for a person, with the exchange's own page
open beside it."""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group

from execution import selectors as execution_selectors
from execution import services as execution
from execution.contracts import AnswerRefused, Decision, DivergenceKind, OrderStatus, RequestKind
from execution.models import OperatorRequest, Order
from execution.selectors import protection
from proposals import selectors as proposal_selectors
from proposals import services as proposals
from proposals.contracts import DecisionRefused
from risk import services as risk
from risk.contracts import ControlRefused, TradingState
from simulator.faults import FaultKind
from tradingbot.core.decimals import ZERO, floor_to_step
from tradingbot.operations.rehearsal.exchange import RehearsedExchange
from tradingbot.operations.rehearsal.faults import Faults

OPERATOR, RISK_MANAGER = "operator", "risk-manager"
OPERATOR_CHANCE = 0.35
REVIEW_CHANCE = 0.2
WATCH_CHANCE = 0.3
REPLACE_CHANCE = 0.6
CANCEL_CHANCE = 0.05
PRICE_MOVE_BPS = (-30, 30)  # beyond the ask at times, so that the rest fills at once
UNRESOLVED = {OrderStatus.INTENT, OrderStatus.SUBMITTED, OrderStatus.UNKNOWN, OrderStatus.MANUAL_REVIEW}
# What a person knows to have come from outside, and what may thus be open on the books.
OUTSIDE = {
    DivergenceKind.FOREIGN_ORDER: (FaultKind.FOREIGN_ORDER,),
    DivergenceKind.BALANCE: (FaultKind.FOREIGN_ORDER, FaultKind.WITHDRAWAL),
    DivergenceKind.ENVIRONMENT_RESET: (FaultKind.RESET,),
}


def is_unresolved() -> bool:
    """Whether the fate of an order is still open."""
    return Order.objects.filter(status__in=UNRESOLVED).exists()


class People:
    """`note` is told what they were refused."""

    def __init__(
        self,
        exchange: RehearsedExchange,
        faults: Faults,
        dice: Any,
        now: Callable[[], datetime],
        note: Callable[[str], None],
    ) -> None:
        self._exchange, self._faults, self._dice = exchange, faults, dice
        self._now, self._note = now, note

    @staticmethod
    def take_their_seats() -> None:
        """An account for who changes orders: that is asked of the table of permissions."""
        operator, _ = get_user_model().objects.get_or_create(username=OPERATOR)
        operator.groups.add(Group.objects.get(name="operator"))

    def answer_proposals(self) -> None:
        """Some of the waiting proposals, at times with two clicks."""
        for proposal in proposal_selectors.pending(self._now()):
            if self._dice.random() > OPERATOR_CHANCE:
                continue
            approve = self._dice.random() < 0.8
            for _ in range(2 if self._faults.hits("double click", 0.2) else 1):
                self._answer(proposal, approve)

    def _answer(self, proposal: Any, approve: bool) -> None:
        try:
            if approve:
                execution.approve_proposal(
                    proposal_id=proposal.pk,
                    version=proposal.version,
                    digest=proposal.digest,
                    actor=OPERATOR,
                    now=self._now(),
                )
            else:
                proposals.reject_proposal(
                    proposal_id=proposal.pk,
                    version=proposal.version,
                    digest=proposal.digest,
                    actor=OPERATOR,
                    reason="rehearsed",
                    now=self._now(),
                )
        except DecisionRefused as refusal:
            self._note(f"operator: {refusal.code}")

    def replace_entries(self) -> None:
        """Some of the resting entries go to another price, at times with two clicks, and a few are cancelled."""
        for order in execution_selectors.open_entries():
            filters = execution_selectors.filters_of(order.symbol)
            if filters is None or not protection.is_replaceable(order):
                continue
            draw = self._dice.random()
            seen: dict[str, Any] = {"order_id": order.pk, "version": order.version}
            if draw < CANCEL_CHANCE:
                self._ask("cancel", partial(execution.ask_cancel, **seen))
            elif draw < CANCEL_CHANCE + REPLACE_CHANCE:
                move = 1 + Decimal(self._dice.randint(*PRICE_MOVE_BPS)) / 10_000
                price = floor_to_step((order.price or ZERO) * move, filters.price_tick)
                for _ in range(2 if self._faults.hits("double click", 0.2) else 1):
                    self._ask("replace", partial(execution.ask_replace, **seen, price=price))

    def _ask(self, what: str, ask: Callable[..., object]) -> None:
        try:
            ask(reason="rehearsed", actor=OPERATOR, now=self._now())
        except AnswerRefused as refusal:
            self._note(f"{what}: {refusal.code}")

    def use_the_switch(self) -> None:
        """Halt at times; else see that trading is armed."""
        if self._faults.hits("halt", 0.01):
            self.halt("rehearsed")
        else:
            self.arm()

    def halt(self, reason: str) -> None:
        """No new risk from now on."""
        risk.halt(actor=OPERATOR, reason=reason, now=self._now())

    def arm(self) -> None:
        """Arm trading, if it may be armed."""
        with suppress(ControlRefused):
            risk.set_trading_state(
                state=TradingState.ACTIVE, actor=RISK_MANAGER, reason="rehearsal", now=self._now()
            )

    def book_what_came_from_outside(self) -> None:
        """They know of foreign orders, withdrawals and wipes. Anything else stays open and counts."""
        for divergence in execution_selectors.open_divergences():
            causes = OUTSIDE.get(DivergenceKind(divergence.kind), ())
            is_reset = divergence.kind == DivergenceKind.ENVIRONMENT_RESET
            if not self._exchange.knobs.has_turned(*causes) or (is_unresolved() and not is_reset):
                continue
            ignored = divergence.kind == DivergenceKind.FOREIGN_ORDER
            with suppress(AnswerRefused):  # another divergence's decision has closed it
                execution.settle_divergence(
                    divergence_id=divergence.pk,
                    version=divergence.version,
                    decision=Decision.IGNORE if ignored else Decision.ADOPT,
                    reason="came from outside",
                    actor=OPERATOR,
                    now=self._now(),
                )

    def review(self, *, at_once: bool = False) -> None:
        """Decide orders that wait for a person, after a while or at once."""
        for order in Order.objects.filter(status=OrderStatus.MANUAL_REVIEW).order_by("created_at", "pk"):
            if at_once or self._dice.random() < REVIEW_CHANCE:
                self._decide(order, watch=not at_once and self._dice.random() < WATCH_CHANCE)

    def _decide(self, order: Order, *, watch: bool) -> None:
        try:
            if watch:
                execution.keep_watching(
                    order_id=order.pk,
                    version=order.version,
                    reason="it may still turn up",
                    actor=OPERATOR,
                    now=self._now(),
                )
                return
            trade_ids = self._trades_of(order)
            execution.ask_review(
                order_id=order.pk,
                version=order.version,
                answer=RequestKind.CONFIRM_FILLED if trade_ids else RequestKind.CONFIRM_ABSENT,
                reason="as the exchange's own page shows it",
                actor=OPERATOR,
                now=self._now(),
                trade_ids=trade_ids,
            )
        except AnswerRefused as refusal:
            self._note(f"review: {refusal.code}")

    def _trades_of(self, order: Order) -> list[int]:
        """What a person sees on the exchange's own page, which no fault of the bot's line touches."""
        records = self._exchange.venue.exchange.records
        ids = {o.order_id for o in records.all_orders() if o.client_order_id == order.client_order_id}
        return [t.trade_id for t in records.all_trades() if t.symbol == order.symbol and t.order_id in ids]

    @staticmethod
    def have_asked() -> bool:
        """Whether an answer of theirs waits to be carried out."""
        return OperatorRequest.objects.filter(done_at=None).exists()
