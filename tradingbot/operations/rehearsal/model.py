"""The model of a rehearsal: the stand-in's rule, which at times bids below the market instead of taking it."""

import json
from decimal import Decimal
from typing import Any

from proposals.contracts import Answer
from simulator.model.rule import decide
from tradingbot.core.decimals import floor_to_step, plain

RESTING_CHANCE = 0.4  # of a purchase
BELOW_BID_BPS = (2, 60)


def answer(request: dict[str, Any], *, dice: Any, step: int) -> Answer:
    """One chat completion for the snapshot in `request`."""
    text = request["messages"][-1]["content"]
    snapshot = json.loads(text[text.index("{") : text.rindex("}") + 1])
    content = json.dumps(_at_times_resting(decide(snapshot), snapshot, dice))
    body = {
        "id": f"rehearsal-{step}",
        "model": "rehearsal-1",
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content}}
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
    return Answer(body=json.dumps(body), truncated=False, request_id=f"step-{step}", latency_ms=1)


def _at_times_resting(decision: dict[str, Any], snapshot: dict[str, Any], dice: Any) -> dict[str, Any]:
    """A purchase may stay on the book, for its price to be changed by a person."""
    if decision["action"] != "BUY" or dice.random() >= RESTING_CHANCE:
        return decision
    below = Decimal(dice.randint(*BELOW_BID_BPS)) / 10_000
    price = floor_to_step(
        Decimal(snapshot["quote"]["bid"]) * (1 - below), Decimal(snapshot["filters"]["tick_size"])
    )
    return decision | {"order_type": "LIMIT", "time_in_force": "GTC", "limit_price": plain(price)}
