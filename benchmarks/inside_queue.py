"""Inside a stack: a full queue that changes, and the sockets of many browsers before it."""

import asyncio
import contextlib
import random
import re
import time
from datetime import timedelta
from decimal import Decimal
from typing import Any

import websockets
from django.conf import settings
from django.db import transaction

from benchmarks.inside_rows import ACTOR, make_proposal
from market import selectors as market
from proposals.models import Proposal
from tradingbot.core import clock
from tradingbot.core.announce import announce
from tradingbot.core.panels import socket_address

RULES = 28  # of the gate, as they lie on each waiting proposal


def fill_queue(*, count: int) -> list[str]:
    """`count` proposals that wait for a person for an hour: rows as the gate leaves them, not judged by it."""
    return [str(_waiting(number).pk) for number in range(count)]


def change_queue(*, seconds: float, gap_seconds: list[float], seed: int, oldest: list[str]) -> dict[str, int]:
    """At random gaps one waiting proposal comes and the oldest goes, in one commit each; when, by proposal."""
    random_gap = random.Random(seed)
    committed: dict[str, int] = {}
    deadline = clock.monotonic_seconds() + seconds
    while clock.monotonic_seconds() < deadline:
        with transaction.atomic():
            proposal = _waiting(0)
            # Registered first, so that it runs before the announcement is queued.
            transaction.on_commit(lambda pk=str(proposal.pk): committed.__setitem__(pk, now_us()))
            Proposal.objects.filter(pk=oldest.pop(0)).update(
                status="rejected", decided_by=ACTOR, decided_at=clock.now()
            )
            oldest.append(str(proposal.pk))
            announce(Proposal.TOPIC, proposal.pk, event="pending_approval")
        time.sleep(random_gap.uniform(*gap_seconds))
    return committed


def watch_queue(*, url: str, session: str, clients: int, seconds: float) -> dict[str, Any]:
    """`clients` sockets as the queue page opens them: when each saw each proposal first, and every patch."""
    first: list[dict[str, int]] = [{} for _ in range(clients)]
    patches: list[tuple[int, int]] = []

    async def watch(seen: dict[str, int]) -> None:
        headers = {"Cookie": f"sessionid={session}"}
        async with websockets.connect(
            url.replace("http", "ws", 1) + socket_address(("queue", "queue.decided")),
            additional_headers=headers, origin=url, max_size=None, compression=None,  # type: ignore[arg-type]
        ) as socket:  # fmt: skip
            async for frame in socket:
                now = now_us()
                if '"content"' not in frame[:200]:
                    continue
                patches.append((now, len(frame)))
                for found in re.findall(r"waiting-([0-9a-f-]{36})", frame):  # type: ignore[arg-type]
                    seen.setdefault(found, now)

    async def watch_for_a_while() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await asyncio.gather(*(watch(seen) for seen in first))

    asyncio.run(watch_for_a_while())
    return {"first": first, "patches": patches}


def _waiting(number: int) -> Proposal:
    now = clock.now()
    symbol = settings.SYMBOLS[number % len(settings.SYMBOLS)]
    quote = market.latest_quote(symbol)
    mid = quote.mid if quote else Decimal(100)
    proposal = make_proposal(symbol, mid, "50", now)
    changes = {
        "status": "pending_approval", "side": "BUY", "order_type": "MARKET", "quantity": Decimal("0.5"),
        "reference_price": mid, "notional_quote": Decimal(50), "fee_quote": Decimal("0.05"),
        "verdict": [{"name": f"rule_{n}", "verdict": "pass", "observed": "1", "limit": "2", "unit": "%",
                     "reason": "it is inside the limit"} for n in range(RULES)],
        "expires_at": now + timedelta(hours=1), "validated_at": now, "digest": "d" * 64,
    }  # fmt: skip
    Proposal.objects.filter(pk=proposal.pk).update(**changes)
    return proposal


def now_us() -> int:
    """Microseconds since the epoch."""
    return time.time_ns() // 1000
