"""NautilusTrader's Binance adapter, unmodified, connects to the simulator, reconciles and trades.

Not a pytest module: NautilusTrader needs Python 3.12, the project runs on 3.11. With an environment of its own:

    python3.12 -m venv /tmp/nautilus && /tmp/nautilus/bin/pip install nautilus_trader==1.231.0
    python -m simulator serve --port 9100 &
    /tmp/nautilus/bin/python tests/strangers/nautilus.py http://127.0.0.1:9100

Exit status 0 and a last line "nautilus traded: ..." when it did.
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
    BinanceAccountType,
    BinanceDataClientConfig,
    BinanceExecClientConfig,
    BinanceLiveDataClientFactory,
    BinanceLiveExecClientFactory,
)
from nautilus_trader.adapters.binance.common.enums import BinanceEnvironment, BinanceKeyType
from nautilus_trader.config import InstrumentProviderConfig, LoggingConfig, TradingNodeConfig
from nautilus_trader.live.node import TradingNode
from nautilus_trader.model.enums import OrderSide
from nautilus_trader.model.identifiers import InstrumentId, TraderId
from nautilus_trader.trading.strategy import Strategy

INSTRUMENT = InstrumentId.from_str("BTCUSDT.BINANCE")
PATIENCE_SECONDS = 60


class BuysOnce(Strategy):
    """Waits for a trade of the market, buys, and waits for its fill."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, Any] = {}
        self.done = threading.Event()

    def on_start(self) -> None:
        self.subscribe_trade_ticks(INSTRUMENT)

    def on_trade_tick(self, tick: Any) -> None:
        if "trade" in self.seen:
            return
        self.seen["trade"] = str(tick.price)
        instrument = self.cache.instrument(INSTRUMENT)
        order = self.order_factory.market(INSTRUMENT, OrderSide.BUY, instrument.make_qty(Decimal("0.01")))
        self.submit_order(order)

    def on_order_filled(self, event: Any) -> None:
        self.seen["filled"] = str(event.last_qty)
        order = self.cache.order(event.client_order_id)
        if order.is_closed:
            self.done.set()


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
            logging=LoggingConfig(log_level="WARNING"),
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
        )
    )
    strategy = BuysOnce()
    node.trader.add_strategy(strategy)
    node.add_data_client_factory(BINANCE, BinanceLiveDataClientFactory)
    node.add_exec_client_factory(BINANCE, BinanceLiveExecClientFactory)
    node.build()
    threading.Thread(target=lambda: (strategy.done.wait(PATIENCE_SECONDS), node.stop()), daemon=True).start()
    try:
        node.run()
    finally:
        node.dispose()
    print(f"nautilus {'traded' if strategy.done.is_set() else 'did not trade'}: {strategy.seen}")
    return 0 if strategy.done.is_set() else 1


def open_account(url: str) -> tuple[str, str]:
    """A new account with an Ed25519 key that OpenSSL makes: the key and its private part as PEM."""
    private = subprocess.run(
        ["openssl", "genpkey", "-algorithm", "ed25519"], capture_output=True, check=True, text=True
    ).stdout
    public = subprocess.run(
        ["openssl", "pkey", "-pubout"], input=private, capture_output=True, check=True, text=True
    ).stdout
    body = {"balances": {"USDT": "10000", "BTC": "1"}, "keyType": "ED25519", "publicKey": public}
    request = urllib.request.Request(
        f"{url}/sim/accounts", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)["apiKey"], private


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
