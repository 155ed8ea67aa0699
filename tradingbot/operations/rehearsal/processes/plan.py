"""What a seed chooses: the blows of a run, their order, their victims and their moments."""

import signal
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from tradingbot.operations.rehearsal.processes.wire import Ambush, Deed, Moment

VICTIMS = {"trading": 6, "trading-2": 6, "advisor": 3, "web": 3, "streams": 1, "beat": 2, "alerts": 2}
ORDERING = ("trading", "trading-2")
ON_ORDER_CHANCE = 0.6  # of a trading worker's death: while an order of its own is on the wire
KILLS_PER_REDIS, REDIS_MIN = 12, 2
KILLS_PER_POSTGRES, POSTGRES_MIN = 25, 1
CUTS_PER_KILL = 0.6
CUT_ON_ORDER_CHANCE = 0.7
STALL_SECONDS = (0.2, 5.0)  # around the bot's time-out of 3 s
PAUSE_SECONDS = (0.0, 1.0)
LINGER_SECONDS = (0.0, 0.15)  # between the moment on the wire and the death


class Kind(StrEnum):
    KILL = "kill"
    REDIS = "redis"
    POSTGRES = "postgres"
    CUT = "cut"


@dataclass(frozen=True, slots=True)
class Blow:
    """One thing that is done to the product. `part` is the victim, or the part whose order is waited for."""

    kind: Kind
    part: str
    pause_seconds: float
    moment: Moment | None = None
    deed: Deed = Deed.HOLD
    seconds: float = 0.0
    passes_on: bool = True
    number: int = signal.SIGKILL

    def ambush(self) -> Ambush:
        """What is laid for the next order of `part`."""
        assert self.moment is not None
        return Ambush(self.moment, self.deed, self.seconds, self.passes_on)


def draw(seed: int, kills: int) -> list[Blow]:
    """All blows of a run with `kills` kills, in their order."""
    dice = Random(f"plan:{seed}")  # noqa: S311 - a seeded rehearsal, no secret
    blows = [_kill(dice) for _ in range(kills)]
    blows += [_redis(dice, turn) for turn in range(max(REDIS_MIN, kills // KILLS_PER_REDIS))]
    blows += [_postgres(dice, turn) for turn in range(max(POSTGRES_MIN, kills // KILLS_PER_POSTGRES))]
    blows += [_cut(dice) for _ in range(round(kills * CUTS_PER_KILL))]
    dice.shuffle(blows)
    return blows


def _kill(dice: Random) -> Blow:
    part = dice.choices(list(VICTIMS), weights=list(VICTIMS.values()))[0]
    on_order = part in ORDERING and dice.random() < ON_ORDER_CHANCE
    return Blow(
        Kind.KILL,
        part,
        dice.uniform(*PAUSE_SECONDS),
        moment=dice.choice(list(Moment)) if on_order else None,
        seconds=dice.uniform(*LINGER_SECONDS),
        passes_on=dice.random() < 0.5,
    )


def _redis(dice: Random, turn: int) -> Blow:
    """In turn: emptied, killed, stopped in order."""
    number = (0, signal.SIGKILL, signal.SIGTERM)[turn % 3]
    return Blow(Kind.REDIS, "redis", dice.uniform(*PAUSE_SECONDS), number=number)


def _postgres(dice: Random, turn: int) -> Blow:
    """In turn: a fast shutdown, and a death that the next start recovers from."""
    number = (signal.SIGINT, signal.SIGKILL)[turn % 2]
    return Blow(Kind.POSTGRES, "postgres", dice.uniform(*PAUSE_SECONDS), number=number)


def _cut(dice: Random) -> Blow:
    deed = dice.choice((Deed.CUT, Deed.STALL, Deed.HALVE))
    on_order = dice.random() < CUT_ON_ORDER_CHANCE
    # A halved request tells the exchange nothing; halved on its way back it is an answer that cannot be read.
    moment = dice.choice((Moment.REQUEST, Moment.ANSWER)) if on_order else None
    seconds = dice.uniform(*STALL_SECONDS)
    return Blow(
        Kind.CUT,
        dice.choice(ORDERING),
        dice.uniform(*PAUSE_SECONDS),
        moment=moment,
        deed=deed,
        seconds=seconds,
    )
