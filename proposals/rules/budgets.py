"""What a strategy's calls of the model cost, and whether it may make another one."""

from dataclasses import dataclass
from decimal import ROUND_UP, Decimal

from proposals.contracts import COMPLETION_TOKENS_MAX

# A call under way, or one that ended without telling its use, counts as much as it can have used: the longest
# answer, and a prompt (some 3,000 tokens with v1) with room to spare.
TOKENS_OF_AN_UNTOLD_CALL = COMPLETION_TOKENS_MAX + 8192
STORED_PLACES = Decimal("1e-10")
_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """What a model costs, in USD for a million tokens."""

    prompt_usd: Decimal
    completion_usd: Decimal


@dataclass(frozen=True, slots=True)
class Budget:
    """The limits of a strategy; None is no limit."""

    calls_per_hour: int
    tokens_per_day: int | None
    cost_per_day_usd: Decimal | None


@dataclass(frozen=True, slots=True)
class Used:
    """What it used: calls of the last hour, and of this UTC day tokens and cost; `cost_usd` None is unknown."""

    calls_of_the_hour: int
    tokens_of_the_day: int
    cost_of_the_day_usd: Decimal | None


def tokens_of_call(told: tuple[int | None, int | None], untold: int) -> tuple[int, int]:
    """(prompt, completion) tokens that count for a decision.

    `told` is what the server said; each of the `untold` requests that it may have worked on without saying so
    counts as the most that it can have used.
    """
    prompt, completion = told
    spare = TOKENS_OF_AN_UNTOLD_CALL - COMPLETION_TOKENS_MAX
    return (prompt or 0) + untold * spare, (completion or 0) + untold * COMPLETION_TOKENS_MAX


def cost_usd(prompt_tokens: int, completion_tokens: int, price: Price) -> Decimal:
    """What so many tokens cost, rounded up."""
    cost = prompt_tokens * price.prompt_usd + completion_tokens * price.completion_usd
    return (cost / _MILLION).quantize(STORED_PLACES, rounding=ROUND_UP)


def why_no_call(budget: Budget, used: Used, model: str) -> tuple[str, str] | None:
    """(code, sentence) of why no further call may be made: BUDGET_SPENT or PRICE_UNKNOWN; None when one may."""
    if used.calls_of_the_hour >= budget.calls_per_hour:
        return (
            "BUDGET_SPENT",
            f"{used.calls_of_the_hour} of {budget.calls_per_hour} calls of this hour are made",
        )
    if budget.tokens_per_day is not None and used.tokens_of_the_day >= budget.tokens_per_day:
        return (
            "BUDGET_SPENT",
            f"{used.tokens_of_the_day} of {budget.tokens_per_day} tokens of this day are used",
        )
    if budget.cost_per_day_usd is None:
        return None
    if used.cost_of_the_day_usd is None:
        return (
            "PRICE_UNKNOWN",
            f"the strategy has a budget in USD, and no price of {model} is known: add one in the admin",
        )
    if used.cost_of_the_day_usd >= budget.cost_per_day_usd:
        return (
            "BUDGET_SPENT",
            f"{used.cost_of_the_day_usd:.4f} of {budget.cost_per_day_usd:.4f} USD of this day are spent",
        )
    return None
