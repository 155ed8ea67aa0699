import pytest

from tests.desk import Desk
from tests.exchange import SimulatedExchange


@pytest.fixture
def desk(db: None, redis_server: object, simulator: SimulatedExchange) -> Desk:
    """A desk that is ready to trade on a fresh account."""
    return Desk(simulator)
