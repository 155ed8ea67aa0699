"""What the exchange answered to a request that changes something: its hashes, in the audit chain (invariant 11).

A refusal's own words are the reason in the chain; queries change nothing and are not in it.
"""

from datetime import datetime

from execution.contracts import Answer
from tradingbot.core import audit


def record_answer(*, subject: str, answer: Answer, now: datetime) -> None:
    """Append a link with the hashes of the request of `subject` (`<kind>:<id>`) and of its answer."""
    audit.record(
        action="exchange.answered",
        subject=subject,
        actor="exchange",
        now=now,
        request_sha256=answer.request_sha256,
        response_sha256=answer.response_sha256,
    )
