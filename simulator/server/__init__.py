"""The exchange on the wire. `make_app(VenueSettings(...))` gives an aiohttp application for tests and the CLI."""

from simulator.server.app import VENUE, make_app
from simulator.server.venue import Venue, VenueSettings

__all__ = ["VENUE", "Venue", "VenueSettings", "make_app"]
