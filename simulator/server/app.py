"""The exchange as an aiohttp application: routes, the task that runs the market, and a clean end."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from functools import partial
from urllib.parse import unquote

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from simulator.api.time_units import wants_microseconds
from simulator.engine.errors import ExchangeError
from simulator.scenario import Scenario, read_scenario
from simulator.server.control import Control
from simulator.server.incidents import Incidents
from simulator.server.market_streams import Subscriber
from simulator.server.rest import RestApi, error_response
from simulator.server.sockets import Connection
from simulator.server.venue import Venue, VenueSettings
from simulator.server.ws_api import CONNECT_WEIGHT, PATH, WsApi

BODY_BYTES_MAX = 64 * 1024
STEPS_PER_TURN_MAX = 2_000
TURN_SECONDS_MIN = 0.2
TURN_SECONDS_MAX = 1.0
DEPTH_TURN_SECONDS = 0.1
SCENARIO_PAUSE_SECONDS = 0.02
CLOSE_PATIENCE_SECONDS = 1.0
DOWN_PAGE = "<html><body><h1>503 Service Temporarily Unavailable</h1></body></html>"
VENUE = web.AppKey("venue", Venue)


def make_app(settings: VenueSettings | None = None) -> web.Application:
    """An application with a venue of its own, ready to be served; app[VENUE] is the venue.

    Raises RecordingError, StoreError or ScenarioError when the market, the state file or the scenario cannot
    be used.
    """
    settings = settings or VenueSettings()
    scenario = read_scenario(settings.scenario) if settings.scenario else None
    venue = Venue(settings)
    incidents = Incidents(venue)
    rest, ws_api = RestApi(venue), WsApi(venue)

    async def bare_stream(request: web.Request) -> web.StreamResponse:
        return await _market_socket(venue, request, "/ws", [], combined=False)

    async def raw_stream(request: web.Request) -> web.StreamResponse:
        names = unquote(request.match_info["streams"]).split("/")
        return await _market_socket(venue, request, "/ws", names, combined=False)

    async def combined_stream(request: web.Request) -> web.StreamResponse:
        names = [name for name in request.query.get("streams", "").split("/") if name]
        return await _market_socket(venue, request, "/stream", names, combined=True)

    async def api_socket(request: web.Request) -> web.StreamResponse:
        return_limits = request.query.get("returnRateLimits", "true") != "false"
        venue.desk.limiter.add_weight(request.remote or "", CONNECT_WEIGHT, venue.now_ms())
        return await _socket(
            venue, request, PATH, lambda connection, text: ws_api.receive(connection, text, return_limits)
        )

    async def run(app: web.Application) -> AsyncIterator[None]:
        async for _ in _run_venue(app, incidents, scenario):
            yield

    app = web.Application(client_max_size=BODY_BYTES_MAX, middlewares=[_outage_gate(venue)])
    app[VENUE] = venue
    app.add_routes(
        [
            web.route("*", "/api/{path:.*}", rest.handle),
            web.get("/ws", bare_stream),
            web.get("/ws/{streams:.+}", raw_stream),
            web.get("/stream", combined_stream),
            # Where a client that must see "/stream" in its address expects plain messages (binance.md §10.2, ccxt).
            web.get("/stream/ws/{streams:.+}", raw_stream),
            web.get(PATH, api_socket),
            *Control(venue, incidents).routes(),
        ]
    )
    app.cleanup_ctx.append(run)
    app.on_shutdown.append(_close_sockets)
    return app


def _outage_gate(venue: Venue) -> Middleware:
    """During an outage only the control paths answer."""

    @web.middleware
    async def be_down(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not venue.is_down or request.path.startswith("/sim/"):
            return await handler(request)
        if venue.outage.mode == "status":
            return web.Response(status=venue.outage.status, text=DOWN_PAGE, content_type="text/html")
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

    return be_down


async def _market_socket(
    venue: Venue, request: web.Request, path: str, names: list[str], combined: bool
) -> web.StreamResponse:
    subscribers: dict[Connection, Subscriber] = {}

    def on_open(connection: Connection) -> None:
        subscribers[connection] = venue.market_streams.open(connection, names, combined)

    def on_text(connection: Connection, text: str) -> None:
        venue.market_streams.receive(subscribers[connection], text)

    return await _socket(venue, request, path, on_text, on_open)


async def _socket(
    venue: Venue,
    request: web.Request,
    path: str,
    on_text: Callable[[Connection, str], None],
    on_open: Callable[[Connection], None] | None = None,
) -> web.StreamResponse:
    """Serve a socket, unless its address opens too many or its time unit is none."""
    try:
        venue.desk.limiter.count_connection(request.remote or "", venue.clock.speed, venue.now_ms())
        microseconds = wants_microseconds(request.query.get("timeUnit"))
    except ExchangeError as error:
        return error_response(error)
    return await venue.connections.serve(request, path, on_text, on_open, microseconds)


async def _run_venue(
    app: web.Application, incidents: Incidents, scenario: Scenario | None
) -> AsyncIterator[None]:
    venue, loop = app[VENUE], asyncio.get_running_loop()

    def later(seconds: float, call: Callable[[], None]) -> None:
        loop.call_later(seconds, call)

    venue.later = later
    tasks = [
        asyncio.create_task(_run_market(venue), name="market"),
        asyncio.create_task(venue.connections.ping_forever(), name="pings"),
    ]
    if scenario is not None:
        tasks.append(asyncio.create_task(_run_scenario(venue, incidents, scenario), name="scenario"))
    for task in tasks:
        task.add_done_callback(_end_process_if_failed)
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    venue.close()


async def _run_scenario(venue: Venue, incidents: Incidents, scenario: Scenario) -> None:
    """Arm every fault of the timetable when its time has come."""
    clock = venue.clock.now_ms if scenario.on_market_time else venue.wall_now_ms
    start_ms = clock()
    for entry in scenario.entries:
        while clock() - start_ms < entry.at_seconds * 1000:
            await asyncio.sleep(SCENARIO_PAUSE_SECONDS)
        try:
            venue.execute(partial(incidents.arm, entry.fault))
        except (ValueError, ExchangeError) as error:
            # E.g. a withdrawal of what is not there: the timetable goes on.
            print(f"simulator: scenario at {entry.at_seconds} s: {entry.fault}: {error}", file=sys.stderr)


def _end_process_if_failed(task: asyncio.Task[None]) -> None:
    """An exchange whose market or pings have died must not look alive."""
    if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, SystemExit):
        raise SystemExit(f"simulator: stopped, the task {task.get_name()} failed: {error!r}") from error


async def _run_market(venue: Venue) -> None:
    """Let the market follow its clock for ever, a few turns a second."""
    while True:
        caught_up = venue.run_market(STEPS_PER_TURN_MAX)
        await asyncio.sleep(_pause_seconds(venue) if caught_up else 0)


def _pause_seconds(venue: Venue) -> float:
    """Until the next tick is due, within bounds: quick speeds bundle several ticks into a turn."""
    longest = DEPTH_TURN_SECONDS if venue.market_feed.depth.is_wanted else TURN_SECONDS_MAX
    next_ms = venue.exchange.next_market_ms()
    if next_ms is None or venue.clock.paused:
        return longest
    due_seconds = (next_ms - venue.clock.now_ms()) / 1000 / venue.clock.speed
    return min(longest, max(TURN_SECONDS_MIN, due_seconds))


async def _close_sockets(app: web.Application) -> None:
    await app[VENUE].connections.close_all(1001, "server shutting down", CLOSE_PATIENCE_SECONDS)
