"""The check that begins every write unit of the streams."""

from market.contracts import Fence
from tradingbot.core import leases


def check(fence: Fence | None) -> None:
    """Raise LeaseLost unless the streams' lease is still ours; without a fence the caller is not a stream."""
    if fence is not None:
        leases.check_fence(fence.lease, fence.number)
