"""The streams with real processes that really die: the simulator, and Celery workers."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import redis
from celery.worker import state

from market import models, rules, selectors, services
from market.adapters.binance_rest import BinanceClient, MarketClient
from market.bootstep import EXIT_CODE_CRASHED, StreamSupervisor
from market.contracts import Candle, Interval
from tests.environment import KEYS
from tests.market.processes import ExchangeProcess, StreamsWorker
from tests.market.scripted import RunningStreams, eventually
from tradingbot.core import clock
from tradingbot.core.environments import Environment, endpoints
from tradingbot.core.models import Lease

# Workers take their time to start on a busy machine, and each step has a deadline of its own.
pytestmark = pytest.mark.timeout(300)
SYMBOL = "BTCUSDT"
OTHER = "ETHUSDT"


@pytest.fixture
def venue(
    tmp_path: Path, settings: Any, redis_server: redis.Redis, transactional_db: None
) -> Iterator[ExchangeProcess]:
    """A simulator at speed that the settings point at, with an account of its own."""
    process = ExchangeProcess(tmp_path / "exchange")
    settings.EXCHANGE = endpoints(Environment.SIMULATOR, simulator_url=process.url)
    settings.SYMBOLS = (SYMBOL,)
    process.start()
    try:
        key, secret = process.open_account()
        (KEYS / "key").write_text(key)
        (KEYS / "secret").write_text(secret)
        yield process
    finally:
        process.kill()


def stored(interval: Interval = Interval.M1, symbol: str = SYMBOL) -> list[Candle]:
    return selectors.closed_candles(symbol, interval, 5000)


def well() -> bool:
    return not selectors.stale_feeds(clock.now())


def buy() -> None:
    client = BinanceClient((KEYS / "key").read_text(), (KEYS / "secret").read_text())
    client.create_order(symbol=SYMBOL, side="BUY", type="MARKET", quantity="0.01")


def assert_equal_to_the_exchanges(minutes: list[Candle]) -> None:
    """The newest thousand minutes equal the exchange's own klines, and so do the derived candles."""
    symbol = minutes[0].symbol
    recent = minutes[-900:]
    theirs = {c.open_time: c for c in MarketClient().fetch_candles(symbol, Interval.M1)}
    assert rules.first_hole(minutes) is None
    assert [theirs[c.open_time] for c in recent] == recent
    for interval in (Interval.M5, Interval.M15):
        assert stored(interval, symbol)[-20:] == rules.derive(minutes, interval)[-20:]


def test_candles_equal_the_exchanges_after_it_was_killed_and_restarted(venue: ExchangeProcess) -> None:
    running = RunningStreams()
    try:
        eventually(lambda: len(stored()) > 502, "live candles are stored")
        venue.kill()
        eventually(lambda: not well())
        newest = stored()[-1]

        venue.start()
        eventually(well)
        eventually(lambda: stored()[-1].open_time > newest.open_time)
    finally:
        running.stop()

    assert running.failure is None
    assert_equal_to_the_exchanges(stored())


def test_a_snapshot_is_taken_of_a_running_market(venue: ExchangeProcess) -> None:
    running = RunningStreams()
    try:
        eventually(well)
        eventually(lambda: selectors.latest_quote(SYMBOL))
        snapshot = services.take_snapshot(symbol=SYMBOL, interval=Interval.M1, now=clock.now())
    finally:
        running.stop()

    assert snapshot.payload["symbol"] == SYMBOL


@contextmanager
def two_workers(venue: ExchangeProcess, folder: Path) -> Iterator[list[StreamsWorker]]:
    """Two workers: the first streams everything, the second stands by."""
    started = [StreamsWorker("one", simulator_url=venue.url, log=folder / "one.log")]
    try:
        eventually(well)
        started.append(StreamsWorker("two", simulator_url=venue.url, log=folder / "two.log"))
        yield started
    finally:
        for worker in started:
            worker.kill()


@pytest.fixture
def workers(venue: ExchangeProcess, tmp_path: Path) -> Iterator[list[StreamsWorker]]:
    """One symbol, and so one shard."""
    with two_workers(venue, tmp_path) as started:
        yield started


def taken_over() -> bool:
    return models.FeedState.objects.filter(fence=2, resynced_at__isnull=False).count() == 2


def test_a_frozen_worker_is_replaced_and_writes_nothing_when_it_thaws(workers: list[StreamsWorker]) -> None:
    first, second = workers
    first.freeze()
    eventually(taken_over)

    first.thaw()
    eventually(lambda: first.log.read_text().count("stream stopped") == 2)
    newest = stored()[-1]
    eventually(lambda: stored()[-1].open_time > newest.open_time)
    codes = [first.stop(), second.stop()]

    assert codes == [0, 0]
    assert set(models.FeedState.objects.values_list("fence", flat=True)) == {2}
    assert_equal_to_the_exchanges(stored())


def test_a_killed_worker_is_replaced_and_nothing_is_missing(workers: list[StreamsWorker]) -> None:
    first, second = workers
    first.kill()

    eventually(taken_over)
    eventually(well)
    newest = stored()[-1]
    eventually(lambda: stored()[-1].open_time > newest.open_time)
    buy()
    eventually(lambda: len(selectors.unfolded_account_events(10)) >= 3)

    assert second.stop() == 0
    assert_equal_to_the_exchanges(stored())
    reasons = models.FeedSession.objects.filter(stream="market").order_by("id")
    assert [r.end_reason for r in reasons] == ["its process died or lost the lease", "stopped"]
    kinds = [e.event_type for e in selectors.unfolded_account_events(10)]
    assert kinds == ["executionReport", "executionReport", "outboundAccountPosition"]


def holders() -> dict[str, str]:
    """Who holds the lease of each stream."""
    return {lease.name.rpartition(":")[2]: lease.holder for lease in Lease.objects.all()}


def holds(worker: StreamsWorker, stream: str) -> bool:
    return f":{worker.pid}:" in holders()[stream]


def hand_over(stream: str, workers: list[StreamsWorker]) -> bool:
    """Stop who holds everything for a moment, in which only the lease of `stream` lapses; True when it moved."""
    [busy] = [w for w in workers if holds(w, stream)]
    [idle] = [w for w in workers if w is not busy]
    busy.freeze()
    Lease.objects.update(expires_at=clock.now() + timedelta(seconds=20))
    Lease.objects.filter(name__endswith=f":{stream}").update(expires_at=clock.now() - timedelta(seconds=1))
    eventually(lambda: holds(idle, stream))
    busy.thaw()
    eventually(well)
    return holds(idle, stream) and not any(holds(idle, other) for other in holders() if other != stream)


def test_one_of_two_shards_is_taken_over_while_the_other_goes_on(
    venue: ExchangeProcess, settings: Any, tmp_path: Path
) -> None:
    settings.SYMBOLS, settings.SYMBOLS_PER_SHARD = (SYMBOL, OTHER), 1
    with two_workers(venue, tmp_path) as workers:
        eventually(lambda: hand_over("market-2", workers), "each worker holds a shard")
        [dying] = [w for w in workers if holds(w, "market-2")]
        [staying] = [w for w in workers if w is not dying]
        going_on = models.FeedSession.objects.get(stream="market", ended_at=None)
        dying.kill()

        eventually(lambda: holds(staying, "market-2"), "the shard is taken over")
        eventually(well)
        newest = {symbol: stored(symbol=symbol)[-1].open_time for symbol in settings.SYMBOLS}
        for symbol, at in newest.items():
            eventually(lambda s=symbol, t=at: stored(symbol=s)[-1].open_time > t)

        assert models.FeedSession.objects.get(stream="market", ended_at=None) == going_on
        for symbol in settings.SYMBOLS:
            assert_equal_to_the_exchanges(stored(symbol=symbol))


def test_streams_that_end_while_they_are_stopped_stop_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    alive = iter([True, False])
    thread = SimpleNamespace(is_alive=lambda: next(alive), join=lambda seconds: None)
    step = StreamSupervisor(object())
    for name, value in {"_thread": thread, "_loop": loop, "_stop": asyncio.Event()}.items():
        monkeypatch.setattr(step, name, value)

    step.stop(object())

    assert not list(alive)


def test_crashed_streams_end_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    async def crash(stop: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("market.services.run_streams", crash)
    monkeypatch.setattr(state, "should_stop", None)

    step = StreamSupervisor(object())
    step.start(object())
    step.stop(object())

    assert state.should_stop == EXIT_CODE_CRASHED
