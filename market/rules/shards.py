"""Split the symbols in shards: one connection, one lease and one FeedState row each."""

from collections.abc import Sequence

from market.contracts import Shard, Stream

STREAMS_PER_CONNECTION_MAX = 1024  # binance.md §6
KINDS_OF_STREAMS = ("kline_1m", "bookTicker", "aggTrade")
SYMBOLS_PER_SHARD_MAX = STREAMS_PER_CONNECTION_MAX // len(KINDS_OF_STREAMS)


def split_in_shards(symbols: Sequence[str], symbols_per_shard: int) -> tuple[Shard, ...]:
    """`market`, `market-2`, … of at most `symbols_per_shard` symbols each, in the order they are given."""
    count = min(symbols_per_shard, SYMBOLS_PER_SHARD_MAX)
    parts = [tuple(symbols[first : first + count]) for first in range(0, len(symbols), count)]
    return tuple(
        Shard(Stream.MARKET if number == 1 else f"{Stream.MARKET}-{number}", part)
        for number, part in enumerate(parts, start=1)
    )


def stream_names(symbols: Sequence[str]) -> list[str]:
    """What a connection for `symbols` subscribes to."""
    return [f"{symbol.lower()}@{kind}" for symbol in symbols for kind in KINDS_OF_STREAMS]
