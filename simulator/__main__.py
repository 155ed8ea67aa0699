"""`python -m simulator serve|model`: run the exchange, or the model stand-in, until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import asyncio
import errno
import math
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from aiohttp import web

from simulator.market.recording import RecordingError
from simulator.model import make_model_app
from simulator.scenario import ScenarioError
from simulator.server import VENUE, VenueSettings, make_app
from simulator.server.venue import CONNECTION_SECONDS
from simulator.store import StoreError

SHUTDOWN_SECONDS = 1.0
SPEED_MAX = 100_000.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 after a stop by signal, 2 when the server cannot start (one line says why)."""
    options = _parser().parse_args(arguments)
    try:
        return asyncio.run(_serve(options))
    except (RecordingError, ScenarioError, StoreError) as error:
        return _refuse(str(error))
    except OSError as error:
        return _refuse(_bind_problem(options.host, options.port, error))


async def _serve(options: argparse.Namespace) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    runner = web.AppRunner(
        options.application(options), access_log=None, shutdown_timeout=SHUTDOWN_SECONDS, handle_signals=False
    )
    await runner.setup()
    try:
        site = web.TCPSite(runner, options.host, options.port)
        await site.start()
        port = runner.addresses[0][1]
        host = f"[{options.host}]" if ":" in options.host else options.host
        print(f"{options.ready} http://{host}:{port}", flush=True)
        if VENUE in runner.app:
            _let_outages_close_the_port(runner, site, options.host, port, stop)
        await stop.wait()
    finally:
        await runner.cleanup()
    return 0


def _let_outages_close_the_port(
    runner: web.AppRunner, site: web.TCPSite, host: str, port: int, stop: asyncio.Event
) -> None:
    """During the fault `down` with mode refuse nobody listens, so that connections are refused."""
    listening, tasks = [site], set()

    async def be_away(seconds: float) -> None:
        await listening[0].stop()
        await asyncio.sleep(seconds)
        listening[0] = web.TCPSite(runner, host, port, reuse_address=True)
        try:
            await listening[0].start()
        except OSError as error:
            # Somebody took the port meanwhile: an exchange that cannot come back must not look alive.
            print(f"simulator: {_bind_problem(host, port, error)}", file=sys.stderr)
            stop.set()

    def stop_listening(seconds: float) -> None:
        task = asyncio.get_running_loop().create_task(be_away(seconds))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    assert runner.app is not None
    runner.app[VENUE].outage.stop_listening = stop_listening


def _exchange(options: argparse.Namespace) -> web.Application:
    return make_app(
        VenueSettings(
            seed=options.seed,
            replay=tuple(options.replay),
            speed=options.speed,
            data=options.data,
            scenario=options.scenario,
            wild=options.wild,
            connection_seconds=options.connection_seconds,
        )
    )


def _model(options: argparse.Namespace) -> web.Application:
    return make_model_app()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m simulator", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="serve|model")
    serve = commands.add_parser("serve", help="a Binance-Spot-compatible exchange")
    _address(serve, 9100, "simulator ready", _exchange)
    serve.add_argument("--seed", type=int, default=7, help="of the generated market and of all trade paths")
    serve.add_argument(
        "--replay", type=Path, action="append", default=[], metavar="FILE",
        help="candle CSV(.gz) named like BTCUSDT-1m-....csv.gz; several files make several symbols",
    )  # fmt: skip
    serve.add_argument("--speed", type=_speed, default=1.0, help="market seconds per wall second (default 1)")
    serve.add_argument("--data", type=Path, metavar="DIR", help="keep accounts, orders and the market here")
    serve.add_argument(
        "--wild", action="store_true", help="the generated market has gaps, thin hours and halts"
    )
    serve.add_argument("--scenario", type=Path, metavar="FILE", help="a timetable of faults (TOML)")
    serve.add_argument(
        "--connection-seconds",
        type=_speed,
        default=CONNECTION_SECONDS,
        help="lifetime of sockets (default 24 h)",
    )
    model = commands.add_parser("model", help="an OpenAI-compatible model that answers by a fixed rule")
    _address(model, 9101, "model ready", _model)
    return parser


def _address(
    parser: argparse.ArgumentParser,
    port: int,
    ready: str,
    application: Callable[[argparse.Namespace], web.Application],
) -> None:
    parser.add_argument("--port", type=_port, default=port, help="0 takes any free port")
    parser.add_argument("--host", default="127.0.0.1")
    parser.set_defaults(ready=ready, application=application)


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port")
    return port


def _speed(text: str) -> float:
    speed = float(text)
    if not (math.isfinite(speed) and 0 < speed <= SPEED_MAX):
        raise argparse.ArgumentTypeError(f"speed must be above 0 and at most {SPEED_MAX:.0f}, not {text}")
    return speed


def _bind_problem(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is taken: stop the program that uses it or choose another --port"
    return f"cannot listen on {host}:{port}: {error.strerror or error}"


def _refuse(message: str) -> int:
    print(f"simulator: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
