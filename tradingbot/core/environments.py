"""The four environments, climbed in order, and where each one's exchange answers.

URLs: binance-spot-api-docs, rest-api.md, web-socket-streams.md, web-socket-api.md, testnet/ and demo-mode/.
"""

from dataclasses import dataclass
from enum import StrEnum


class Environment(StrEnum):
    SIMULATOR = "simulator"
    TESTNET = "testnet"
    DEMO = "demo"
    LIVE = "live"


@dataclass(frozen=True, slots=True)
class ExchangeEndpoints:
    """Base addresses without a trailing slash: `rest_url` ends before `/v3`, `stream_url` before `/stream`."""

    rest_url: str
    stream_url: str
    ws_api_url: str


ENDPOINTS: dict[Environment, ExchangeEndpoints] = {
    Environment.TESTNET: ExchangeEndpoints(
        rest_url="https://testnet.binance.vision/api",
        stream_url="wss://stream.testnet.binance.vision",
        ws_api_url="wss://ws-api.testnet.binance.vision/ws-api/v3",
    ),
    Environment.DEMO: ExchangeEndpoints(
        rest_url="https://demo-api.binance.com/api",
        stream_url="wss://demo-stream.binance.com",
        ws_api_url="wss://demo-ws-api.binance.com/ws-api/v3",
    ),
    Environment.LIVE: ExchangeEndpoints(
        rest_url="https://api.binance.com/api",
        stream_url="wss://stream.binance.com:9443",
        ws_api_url="wss://ws-api.binance.com:443/ws-api/v3",
    ),
}


def endpoints(environment: Environment, *, simulator_url: str) -> ExchangeEndpoints:
    """The exchange's addresses for `environment`; the simulator's are derived from its one base URL."""
    if environment is not Environment.SIMULATOR:
        return ENDPOINTS[environment]
    socket_base = simulator_url.replace("http", "ws", 1)
    return ExchangeEndpoints(
        rest_url=f"{simulator_url}/api", stream_url=socket_base, ws_api_url=f"{socket_base}/ws-api/v3"
    )
