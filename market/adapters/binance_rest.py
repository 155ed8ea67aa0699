"""REST over python-binance, for public requests here and for execution's signed ones by subclass."""

import json
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any

import requests
from binance.client import Client
from binance.exceptions import BinanceAPIException, BinanceRequestException
from django.conf import settings

from market import rules
from market.adapters.order_limits import learn_order_limits
from market.adapters.weight import Priority, WeightLimit
from market.contracts import Candle, ExchangeUnavailable, Interval, MalformedFrame, Quote, SymbolFilters
from market.rules import AggTrade
from tradingbot.core import clock

KLINES_MAX = 1000
TRADES_MAX = 1000
UNKNOWN_SYMBOL = -1121  # binance.md §2.3: one unknown symbol in a list fails the whole request
RATE_LIMITED = (429, 418)
HOLD_SECONDS = 60  # when the exchange does not say how long
USED_WEIGHT_HEADER = "X-MBX-USED-WEIGHT-1M"
# Request weights (binance.md §2.3); the two with `symbols` count as for all symbols.
WEIGHTS = {"time": 1, "exchangeInfo": 20, "klines": 2, "ticker/bookTicker": 4, "aggTrades": 4}
READ_TIMEOUT_SECONDS = 6  # nothing is at stake in a public read: sooner a fresh attempt than the 10 s limit


class BinanceClient(Client):
    """python-binance bound to this environment's URLs.

    No ping at construction, no proxy from the process environment, no HTTP retry: a request is sent once.
    The attributes are python-binance's own names: it overwrites a recvWindow passed per call, and builds its
    (unused) socket object from WS_API_URL while it is constructed.
    """

    def __init__(self, api_key: str | None = None, api_secret: str | None = None) -> None:
        self.API_URL = settings.EXCHANGE.rest_url
        self.WS_API_URL = settings.EXCHANGE.ws_api_url
        self.REQUEST_TIMEOUT = settings.EXCHANGE_TIMEOUT_SECONDS
        self.REQUEST_RECVWINDOW = settings.RECV_WINDOW_MS
        super().__init__(api_key, api_secret, ping=False)

    def _init_session(self) -> requests.Session:
        session = super()._init_session()
        session.trust_env = False
        return session


class MarketClient(BinanceClient):
    """Public market data as contracts; every failure is ExchangeUnavailable or MalformedFrame."""

    def __init__(self) -> None:
        super().__init__()
        self.REQUEST_TIMEOUT = min(READ_TIMEOUT_SECONDS, settings.EXCHANGE_TIMEOUT_SECONDS)
        self._limit = WeightLimit(self.API_URL)

    def fetch_server_time_ms(self) -> int:
        """The exchange's clock in epoch milliseconds."""
        answer = self._read("time")
        if not isinstance(answer, dict) or type(answer.get("serverTime")) is not int:
            raise MalformedFrame("GET time gave no serverTime")
        return int(answer["serverTime"])

    def measure_clock_offset_ms(self) -> int:
        """Server time minus ours, taken at the middle of one round trip."""
        sent = clock.now()
        server_ms = self.fetch_server_time_ms()
        middle = sent + (clock.now() - sent) / 2
        return server_ms - clock.to_milliseconds(middle)

    def fetch_instruments(self, symbols: tuple[str, ...]) -> list[tuple[SymbolFilters, dict[str, Any]]]:
        """Filters and raw entry of each of `symbols` that the exchange lists; the others are left out."""
        try:
            return self._instruments(symbols)
        except ExchangeUnavailable as error:
            if error.code != UNKNOWN_SYMBOL:
                raise
            if len(symbols) == 1:
                return []
        return [found for symbol in symbols for found in self.fetch_instruments((symbol,))]

    def _instruments(self, symbols: tuple[str, ...]) -> list[tuple[SymbolFilters, dict[str, Any]]]:
        answer = self._read("exchangeInfo", symbols=json.dumps(symbols, separators=(",", ":")))
        entries = answer.get("symbols") if isinstance(answer, dict) else None
        if not isinstance(entries, list):
            raise MalformedFrame("exchangeInfo gave no list of symbols")
        self._limit.learn_limit(rules.weight_per_minute(answer.get("rateLimits")))
        learn_order_limits(self.API_URL, rules.order_limits(answer.get("rateLimits")))
        return [(rules.parse_filters(entry), entry) for entry in entries]

    def fetch_quotes(self, symbols: Sequence[str]) -> list[Quote]:
        """Best bid and ask of `symbols` as of the moment of asking (weight 4)."""
        asked_at = clock.now()
        answer = self._read("ticker/bookTicker", symbols=json.dumps(list(symbols), separators=(",", ":")))
        if not isinstance(answer, list):
            raise MalformedFrame("ticker/bookTicker gave no list")
        return [rules.parse_book_row(row, received_at=asked_at) for row in answer]

    def fetch_candles(
        self,
        symbol: str,
        interval: Interval,
        *,
        limit: int = KLINES_MAX,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> list[Candle]:
        """Closed candles, oldest first: the oldest `limit` from `start`, or without it the newest before `end`."""
        rows = self.fetch_candle_rows(symbol, interval, limit=limit, start=start, end=end)
        return [c for c in rows if c.closed]

    def fetch_candle_rows(
        self,
        symbol: str,
        interval: Interval,
        *,
        limit: int = KLINES_MAX,
        start: datetime | None = None,
        end: datetime | None = None,
    ) -> list[Candle]:
        """As fetch_candles, with the last row marked open (`closed` is False).

        Our clock cannot tell whether it is: market time need not be wall time. It is taken for open until a
        later one exists.
        """
        answer = self._read(
            "klines",
            symbol=symbol,
            interval=interval.value,
            limit=limit,
            startTime=clock.to_milliseconds(start) if start else None,
            endTime=clock.to_milliseconds(end) if end else None,
        )
        if not isinstance(answer, list):
            raise MalformedFrame(f"klines of {symbol} are not a list")
        last = len(answer) - 1
        rows = [
            rules.parse_kline_row(row, symbol=symbol, interval=interval, closed=index < last)
            for index, row in enumerate(answer)
        ]
        if any(a.open_time >= b.open_time for a, b in pairwise(rows)):
            raise MalformedFrame(f"klines of {symbol} are out of order")
        return rows

    def fetch_trades(
        self, symbol: str, *, from_id: int | None = None, limit: int = TRADES_MAX
    ) -> list[AggTrade]:
        """Aggregate trades by rising id: the oldest `limit` from `from_id`, or without it the newest."""
        answer = self._read("aggTrades", symbol=symbol, limit=limit, fromId=from_id)
        if not isinstance(answer, list):
            raise MalformedFrame(f"aggTrades of {symbol} are not a list")
        trades = [rules.parse_trade_row(row, symbol=symbol) for row in answer]
        if any(a.aggregate_id >= b.aggregate_id for a, b in pairwise(trades)):
            raise MalformedFrame(f"aggTrades of {symbol} are out of order")
        return trades

    def _read(self, path: str, **params: Any) -> Any:
        wait_seconds = self._limit.take(WEIGHTS[path], Priority.PUBLIC)
        if wait_seconds > 0:
            raise ExchangeUnavailable(f"GET {path} was not sent: rate limited for {wait_seconds:.0f} s more")
        try:
            answer = self._request_api("get", path, data=params)
        except BinanceAPIException as error:
            self._hold_back(error)
            raise ExchangeUnavailable(
                f"GET {path} was refused with HTTP {error.status_code}, code {error.code}: {error.message!s:.120}",
                code=error.code if isinstance(error.code, int) else 0,
            ) from error
        except BinanceRequestException as error:
            raise MalformedFrame(f"GET {path} gave no JSON") from error
        except requests.RequestException as error:
            raise ExchangeUnavailable(
                f"GET {path} got no answer from {self.API_URL} ({type(error).__name__})"
            ) from error
        self._limit.learn(self.response.headers.get(USED_WEIGHT_HEADER))
        return answer

    def _hold_back(self, error: BinanceAPIException) -> None:
        """After 429 or 418 send nothing before Retry-After is over: asking on turns a limit into a ban."""
        if error.status_code in RATE_LIMITED:
            stated = error.response.headers.get("Retry-After", "")
            seconds = int(stated) if stated.isascii() and stated.isdigit() else HOLD_SECONDS
            self._limit.hold(seconds)
