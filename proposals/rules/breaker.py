"""How the advisor's circuit breaker is paced (reference/stack.md §2, reliability.md row 24)."""

import hashlib

FAILURES_TO_OPEN = 3
COOL_DOWN_SECONDS = 30
COOL_DOWN_SECONDS_MAX = 480
NAME_LENGTH_MAX = 80


def cool_down_seconds(trips: int) -> int:
    """Seconds that the breaker stays open after its `trips`-th opening in a row: doubling, capped."""
    doublings = min(max(trips, 1) - 1, 10)
    return min(COOL_DOWN_SECONDS * 2**doublings, COOL_DOWN_SECONDS_MAX)


def breaker_name(*, model: str, host: str, shadow: bool = False) -> str:
    """The breaker of one model at one server; a name too long for the row is cut and told apart by a hash.

    Shadows have their own: their failures must not silence the advisor that trades.
    """
    name = f"{model} at {host}{' (shadow)' if shadow else ''}"
    if len(name) <= NAME_LENGTH_MAX:
        return name
    return f"{name[: NAME_LENGTH_MAX - 13]}~{hashlib.sha256(name.encode()).hexdigest()[:12]}"
