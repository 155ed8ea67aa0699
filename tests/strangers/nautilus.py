"""NautilusTrader's Binance adapter, unmodified, connects to the simulator, reconciles, trades, queries, cancels.

Not a pytest module: NautilusTrader needs Python 3.12 and the project runs on 3.11. `make strangers` gives it an
environment and a simulator of its own (tests/strangers/run_nautilus.py). By hand:

    .venv-nautilus/bin/python tests/strangers/nautilus.py http://127.0.0.1:9100

Exit status 0 and a last line "nautilus traded: ..." when every step came to pass, else 1 and "nautilus did not
trade: ..." with the steps that did.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import urllib.request
from decimal import Decimal
from typing import Any

from nautilus_trader.adapters.binance import (
    BINANCE,
    BINANCE_VENUE,
    BinanceAccountType,
    BinanceDataClientConfig,
    BinanceExecClientConfig,
    BinanceLiveDataClientFactory,
    BinanceLiveExecClientFactory,
)
from nautilus_trader.adapters.binance.common.enums import BinanceEnvironment, BinanceKeyType
from nautilus_trader.config import InstrumentProviderConfig, LoggingConfig, TradingNodeConfig
from nautilus_trader.execution.reports import OrderStatusReport
from nautilus_trader.live.node import TradingNode
from nautilus_trader.model.currencies import BTC, USDT
from nautilus_trader.model.enums import OrderSide, OrderStatus
from nautilus_trader.model.identifiers import ClientOrderId, InstrumentId, TraderId
from nautilus_trader.trading.strategy import Strategy

INSTRUMENT = InstrumentId.from_str("BTCUSDT.BINANCE")
OPENING = {"USDT": "10000", "BTC": "1"}
EARLIER_ORDER = "placed-before-nautilus"
FAR_BELOW = Decimal("0.9")
"""Of the last price: a buy there rests, and is inside the exchange's price band."""
STEPS = ("reconciled", "trade heard", "filled", "accepted", "queried", "canceled")
PATIENCE_SECONDS = 60


class TakesEveryStep(Strategy):
    """Looks for the order that was there before it, buys at a trade of the market, and after the fill rests
    an order, asks for it and cancels it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, str] = {}
        self.done = threading.Event()

    def on_start(self) -> None:
        earlier = self.cache.order(ClientOrderId(EARLIER_ORDER))
        free = self.portfolio.account(BINANCE_VENUE).balance_total
        if earlier is not None and earlier.is_open and free(BTC).as_decimal() == Decimal(OPENING["BTC"]):
            self.seen["reconciled"] = f"{earlier.quantity} open, {free(USDT)}"
        self.msgbus.subscribe(f"reports.execution.{INSTRUMENT.venue}.{INSTRUMENT.symbol}", self.on_report)
        self.subscribe_trade_ticks(INSTRUMENT)

    def on_trade_tick(self, tick: Any) -> None:
        if "trade heard" in self.seen:
            return
        self.seen["trade heard"] = str(tick.price)
        quantity = self.cache.instrument(INSTRUMENT).make_qty(Decimal("0.01"))
        self.submit_order(self.order_factory.market(INSTRUMENT, OrderSide.BUY, quantity))

    def on_order_filled(self, event: Any) -> None:
        if "filled" in self.seen or not self.cache.order(event.client_order_id).is_closed:
            return
        self.seen["filled"] = f"{event.last_qty} at {event.last_px}, commission {event.commission}"
        instrument = self.cache.instrument(INSTRUMENT)
        price = instrument.make_price(event.last_px.as_decimal() * FAR_BELOW)
        quantity = instrument.make_qty(Decimal("0.01"))
        self.resting = self.order_factory.limit(INSTRUMENT, OrderSide.BUY, quantity, price)
        self.submit_order(self.resting)

    def on_order_accepted(self, event: Any) -> None:
        if "filled" in self.seen and event.client_order_id == self.resting.client_order_id:
            self.seen["accepted"] = str(event.venue_order_id)
            self.query_order(self.resting)

    def on_report(self, report: Any) -> None:
        if "accepted" not in self.seen or not isinstance(report, OrderStatusReport):
            return
        if report.client_order_id == self.resting.client_order_id and "queried" not in self.seen:
            assert report.order_status == OrderStatus.ACCEPTED, report
            self.seen["queried"] = f"{report.quantity} at {report.price}"
            self.cancel_order(self.resting)

    def on_order_canceled(self, event: Any) -> None:
        self.seen["canceled"] = str(event.client_order_id)
        self.done.set()

    def on_stop(self) -> None:
        self.unsubscribe_trade_ticks(INSTRUMENT)


def main(url: str) -> int:
    api_key, private_key = open_account(url)
    keys = {
        "api_key": api_key,
        "api_secret": private_key,
        "key_type": BinanceKeyType.ED25519,
        "account_type": BinanceAccountType.SPOT,
        "environment": BinanceEnvironment.TESTNET,
        "base_url_http": url,
    }
    host = url.replace("http://", "ws://")
    provider = InstrumentProviderConfig(load_ids=frozenset([INSTRUMENT]))
    node = TradingNode(
        TradingNodeConfig(
            trader_id=TraderId("REHEARSAL-001"),
            logging=LoggingConfig(log_level="ERROR"),
            data_clients={
                BINANCE: BinanceDataClientConfig(base_url_ws=host, instrument_provider=provider, **keys)
            },
            exec_clients={
                BINANCE: BinanceExecClientConfig(
                    base_url_ws=f"{host}/ws-api/v3", instrument_provider=provider, **keys
                )
            },
            timeout_connection=30.0,
            timeout_reconciliation=10.0,
            timeout_disconnection=5.0,
            timeout_post_stop=2.0,
        )
    )
    strategy = TakesEveryStep()
    node.trader.add_strategy(strategy)
    node.add_data_client_factory(BINANCE, BinanceLiveDataClientFactory)
    node.add_exec_client_factory(BINANCE, BinanceLiveExecClientFactory)
    node.build()
    threading.Thread(target=lambda: (strategy.done.wait(PATIENCE_SECONDS), node.stop()), daemon=True).start()
    try:
        node.run()
    finally:
        node.dispose()
    traded = all(step in strategy.seen for step in STEPS)
    told = ", ".join(f"{step} ({strategy.seen[step]})" for step in STEPS if step in strategy.seen)
    print(f"nautilus {'traded' if traded else 'did not trade'}: {told or 'nothing came to pass'}", flush=True)
    return 0 if traded else 1


def open_account(url: str) -> tuple[str, str]:
    """A new account with an order on the book and an Ed25519 key that OpenSSL makes: the key and its private
    part as PEM."""
    private = subprocess.run(
        ["openssl", "genpkey", "-algorithm", "ed25519"], capture_output=True, check=True, text=True
    ).stdout
    public = subprocess.run(
        ["openssl", "pkey", "-pubout"], input=private, capture_output=True, check=True, text=True
    ).stdout
    account = ask(f"{url}/sim/accounts", {"balances": OPENING, "keyType": "ED25519", "publicKey": public})
    price = Decimal(ask(f"{url}/api/v3/ticker/price?symbol=BTCUSDT")["price"]) * FAR_BELOW
    order = {
        "side": "BUY",
        "type": "LIMIT",
        "timeInForce": "GTC",
        "quantity": "0.02",
        "price": f"{price:.0f}",
    }
    order["newClientOrderId"] = EARLIER_ORDER
    by_hand = {"kind": "foreign_order", "symbol": "BTCUSDT", "api_key": account["apiKey"], "values": order}
    ask(f"{url}/sim/faults", by_hand)
    return account["apiKey"], private


def ask(address: str, body: dict[str, Any] | None = None) -> Any:
    """POST with a body, else GET."""
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(address, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
