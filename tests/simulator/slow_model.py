"""A slow, obvious exchange of one symbol: plain lists, looked through from end to end for every single step.

It shares no code with the engine and knows no world: all trades are between accounts or with the volume of a
tick. Prices are whole numbers, so that nothing is ever rounded but the quantity of an OPO's pending legs. What it
says are the readings of simulator/README.md; `told` is every event in the order in which accounts hear it.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

KEPT = Decimal("0.999")
ZERO = Decimal(0)
STOPS_MAX = 5
LISTS_MAX = 20
AMENDS_MAX = 10
BALANCE = "Account has insufficient balance for requested action."
TRIGGER = "Order would trigger immediately."
TAKE = "Order would immediately match and take."
RELATION = "The relationship of the prices for the orders is not correct."


@dataclass(eq=False)
class Row:
    """An order. `price` is None for one at any price; a stop has `stop`, `delta` (basis points) or both."""

    name: str
    owner: int
    side: str
    price: int | None
    quantity: Decimal
    tif: str = "GTC"
    maker_only: bool = False
    mode: str = "EXPIRE_MAKER"
    iceberg: Decimal = ZERO
    stop: int = 0
    delta: int = 0
    takes_profit: bool = False
    status: str = "NEW"
    done: Decimal = ZERO
    quote: Decimal = ZERO
    lost: Decimal = ZERO
    lock: Decimal = ZERO
    show: Decimal = ZERO
    place: int = 0
    trail: int = 0
    fired: bool = False
    amends: int = 0
    group: Group | None = None

    @property
    def left(self) -> Decimal:
        return self.quantity - self.done - self.lost

    @property
    def shown(self) -> Decimal:
        return min(self.show, self.left) if self.iceberg else self.left

    @property
    def open(self) -> bool:
        return self.status in ("NEW", "PENDING_NEW", "PARTIALLY_FILLED")

    @property
    def is_stop(self) -> bool:
        return bool(self.stop or self.delta)

    @property
    def above(self) -> bool:
        """Waits for the price to rise."""
        return (self.side == "BUY") != self.takes_profit

    @property
    def asset(self) -> str:
        return "BTC" if self.side == "SELL" else "USDT"

    @property
    def need(self) -> Decimal:
        """What must be locked for what is left of it."""
        if self.side == "SELL":
            return self.left
        return self.left * (self.stop if self.price is None else self.price)

    def reached_by(self, price: int) -> bool:
        return price >= self.stop if self.above else price <= self.stop


@dataclass(eq=False)
class Group:
    """An order list: `working` is None in an OCO; `rest` are the one or two legs that depend."""

    name: str
    owner: int
    working: Row | None
    rest: list[Row]
    onward: bool = False
    active: bool = False
    done: bool = False

    @property
    def legs(self) -> list[Row]:
        return [self.working, *self.rest] if self.working else list(self.rest)


@dataclass
class SlowExchange:
    """`place`, `place_list`, `cancel`, `amend`, `tick` and `move_money` are the commands; a refusal is handed back."""

    money: dict[tuple[int, str], Decimal]
    last: int
    rows: list[Row] = field(default_factory=list)
    waiting: list[Row] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    told: list[tuple[Any, ...]] = field(default_factory=list)
    changed: list[Group] = field(default_factory=list)
    touched: set[tuple[int, str]] = field(default_factory=set)
    places: int = 0

    # --- commands ---------------------------------------------------------------------------------------

    def place(self, row: Row) -> str | None:
        if refusal := self.too_many(row.owner, [row]):
            return refusal
        if row.stop and not row.delta and row.reached_by(self.last):
            return TRIGGER
        if row.maker_only and self.best_against(row):
            return TAKE
        at_any_price = row.price is None and not row.is_stop
        need = self.what_if(row).quote if at_any_price and row.side == "BUY" else row.need
        if self.free(row.owner, row.asset) < need:
            return BALANCE
        self.rows.append(row)
        # Its owner hears of the balance even if nothing was there to be bought.
        self.touched.add((row.owner, row.asset))
        self.set_lock(row, need)
        self.tell(row, "NEW")
        self.start(row)
        return self.end_command()

    def place_list(self, group: Group) -> str | None:
        first = group.legs if group.working is None else [group.working]
        dearest = max(first, key=lambda leg: leg.need)
        if refusal := self.refuse_list(group, first, dearest):
            return refusal
        self.groups.append(group)
        self.rows += group.legs
        for leg in group.legs:
            leg.group = group
        self.set_lock(dearest, dearest.need)
        self.told.append((group.owner, "LIST", group.name, False))
        group.active = group.working is None
        for leg in group.legs:
            leg.status = "NEW" if leg in first else "PENDING_NEW"
            self.tell(leg, "NEW")
        for leg in first:
            self.start(leg)
        return self.end_command()

    def refuse_list(self, group: Group, first: list[Row], dearest: Row) -> str | None:
        if refusal := self.too_many(group.owner, group.legs):
            return refusal
        if sum(other.owner == group.owner and not other.done for other in self.groups) >= LISTS_MAX:
            return "Filter failure: MAX_NUM_ORDER_LISTS"
        for leg in first:
            if group.working is None and not self.on_its_side(leg):
                return RELATION
            if leg.stop and not leg.delta and leg.reached_by(self.last):
                return TRIGGER
            if leg.maker_only and self.best_against(leg):
                return TAKE
        return BALANCE if self.free(group.owner, dearest.asset) < dearest.need else None

    def cancel(self, row: Row) -> None:
        group = row.group
        if group is None or group.done:
            self.end(row, "CANCELED", "CANCELED")
        else:
            for leg in group.legs:
                if leg.open:
                    self.end(leg, "CANCELED", "CANCELED")
            self.finish(group)
        self.end_command()

    def amend(self, row: Row, quantity: Decimal) -> str | None:
        """Make an order smaller where it stands, and the other leg of its pair with it."""
        group = row.group
        if group is not None and group.onward and row.status == "PENDING_NEW":
            return "Order amend (pending OPO order) is not supported."
        if quantity > row.quantity:
            return "Order amend (quantity increase) is not supported."
        if quantity == row.quantity or quantity <= row.done + row.lost:
            return "The requested action would change no state; rejecting."
        if row.amends >= AMENDS_MAX:
            return "Filter failure: MAX_NUM_ORDER_AMENDS"
        legs = [row]
        if group is not None and len(group.rest) == 2 and row is not group.working:
            legs += [leg for leg in group.rest if leg.open and leg is not row]
        row.amends += 1
        for leg in legs:
            leg.quantity = quantity
            leg.iceberg = min(leg.iceberg, quantity)
            self.tell(leg, "REPLACED")
        dearest = max(leg.need for leg in legs)
        for leg in legs:
            self.set_lock(leg, min(leg.lock, dearest))
        return self.end_command()

    def tick(self, price: int, volume: Decimal, hits: str) -> None:
        """The tape trades: its volume reaches resting orders of one side, stops follow, then trigger."""
        self.last = price
        while volume and (row := self.best(hits, price)) is not None:
            quantity = min(volume, row.shown)
            volume -= quantity
            self.seize(row)
            self.fill(row, row.price or 0, quantity)
            self.after(row, quantity)
        for row in self.waiting:
            if row.delta and not row.trail and row.reached_by(price):
                row.trail = price
            elif row.delta and row.trail:
                row.trail = min(row.trail, price) if row.above else max(row.trail, price)
        for row in [row for row in self.waiting if self.is_triggered(row, price)]:
            if row.open and not row.fired:
                self.fire(row)
        self.end_command()

    def move_money(self, owner: int, asset: str, amount: Decimal) -> str | None:
        if self.free(owner, asset) < -amount:
            return BALANCE
        self.money[(owner, asset)] += amount
        self.touched.add((owner, asset))
        self.told.append((owner, "DEPOSIT", asset, amount))
        return self.end_command()

    # --- matching ---------------------------------------------------------------------------------------

    def book(self, side: str) -> list[Row]:
        """Resting orders, best price first, oldest first within a price."""
        sign = -1 if side == "BUY" else 1
        rows = [row for row in self.rows if row.side == side and row.open and row.place]
        return sorted(rows, key=lambda row: ((row.price or 0) * sign, row.place))

    def best(self, side: str, limit: int | None) -> Row | None:
        for row in self.book(side):
            price = row.price or 0
            if limit is None or (price >= limit if side == "BUY" else price <= limit):
                return row
        return None

    def best_against(self, row: Row) -> Row | None:
        return self.best("SELL" if row.side == "BUY" else "BUY", row.price)

    def what_if(self, row: Row) -> Row:
        """The order as it would be after it had come to the book."""
        world, twin = deepcopy((self, row))
        twin.tif = "IOC"
        world.enter(twin)
        return twin

    def start(self, row: Row) -> None:
        """An order that has its lock waits, or comes to the book."""
        if row.is_stop:
            self.waiting.append(row)
            if row.delta and not row.stop:
                row.trail = self.last
        else:
            row.fired = True
            self.enter(row)

    def fire(self, row: Row) -> None:
        self.waiting.remove(row)
        self.seize(row)
        row.fired = True
        if row.side == "BUY" and row.price is None:
            short = self.what_if(row).quote - row.lock
            if short > 0 and self.free(row.owner, "USDT") < short:
                self.end(row, "EXPIRED", "EXPIRED")
                return
            if short > 0:
                self.set_lock(row, row.lock + short)
        self.tell(row, "NEW")
        self.enter(row)

    def enter(self, row: Row) -> None:
        if row.tif == "FOK" and self.what_if(row).done < row.quantity:
            self.end(row, "EXPIRED", "EXPIRED")
            return
        if row.price is None or self.best_against(row):
            self.seize(row)
        while row.open and (maker := self.best_against(row)) is not None:
            if maker.owner == row.owner:
                self.prevent(row, maker)
                continue
            quantity, price = min(row.left, maker.shown), maker.price or 0
            self.seize(maker)
            self.fill(maker, price, quantity)
            self.after(maker, quantity)
            self.fill(row, price, quantity)
        if row.open and (row.price is None or row.tif != "GTC"):
            self.end(row, "EXPIRED", "EXPIRED")
        elif row.open:
            row.show = row.iceberg
            self.queue(row)

    def queue(self, row: Row) -> None:
        self.places += 1
        row.place = self.places

    def after(self, row: Row, quantity: Decimal) -> None:
        """An iceberg whose slice is gone shows the next one, at the end of the queue."""
        row.show -= quantity
        if row.iceberg and row.open and row.show <= 0:
            row.show = row.iceberg
            self.queue(row)

    def fill(self, row: Row, price: int, quantity: Decimal) -> None:
        row.done += quantity
        row.quote += quantity * price
        row.status = "FILLED" if not row.left else "PARTIALLY_FILLED"
        sign = 1 if row.side == "BUY" else -1
        gets_base, gets_quote = (KEPT, Decimal(1)) if sign == 1 else (Decimal(1), KEPT)
        self.money[(row.owner, "BTC")] += sign * quantity * gets_base
        self.money[(row.owner, "USDT")] -= sign * quantity * price * gets_quote
        self.touched |= {(row.owner, "BTC"), (row.owner, "USDT")}
        if row.side == "BUY" and row.price is None:
            row.lock = row.lock - quantity * price if row.left else ZERO
        else:
            row.lock = row.need
        self.tell(row, "TRADE", quantity, price)

    def prevent(self, taker: Row, maker: Row) -> None:
        both = min(taker.left, maker.shown)
        takes, makes = {
            "EXPIRE_MAKER": (ZERO, maker.left),
            "EXPIRE_TAKER": (taker.left, ZERO),
            "EXPIRE_BOTH": (taker.left, maker.left),
        }.get(taker.mode, (both, both))
        if makes:
            self.seize(maker)
            self.lose(maker, makes)
            self.after(maker, makes)
        if takes:
            self.lose(taker, takes)

    def lose(self, row: Row, quantity: Decimal) -> None:
        row.lost += quantity
        if not row.left:
            self.end(row, "EXPIRED_IN_MATCH", "TRADE_PREVENTION")
            return
        if row.side == "SELL" or row.price is not None:
            self.set_lock(row, row.need)
        self.tell(row, "TRADE_PREVENTION")

    def end(self, row: Row, status: str, how: str) -> None:
        row.status = status
        self.set_lock(row, ZERO)
        if row in self.waiting:
            self.waiting.remove(row)
        self.tell(row, how)

    # --- stops and lists --------------------------------------------------------------------------------

    @staticmethod
    def is_triggered(row: Row, price: int) -> bool:
        if not row.delta:
            return row.reached_by(price)
        if not row.trail:
            return False
        turn = Decimal(row.delta) / 10_000 * row.trail
        return price >= row.trail + turn if row.above else price <= row.trail - turn

    def on_its_side(self, leg: Row) -> bool:
        if leg.maker_only:
            price = leg.price or 0
            return price > self.last if leg.side == "SELL" else price < self.last
        if not leg.stop:
            return True
        return leg.stop > self.last if leg.above else leg.stop < self.last

    def seize(self, row: Row) -> None:
        """A leg of a pair is about to execute: the other one ends and leaves it the lock that they share."""
        group = row.group
        if group is None or group.done or row is group.working or len(group.rest) < 2 or row.done or row.lost:
            return
        for other in group.rest:
            if other is not row and other.open:
                row.lock, other.lock = row.lock + other.lock, ZERO
                self.end(other, "EXPIRED", "EXPIRED")
        if row.side == "SELL" or row.price is not None:
            self.set_lock(row, row.need)

    def follow(self) -> None:
        while self.changed:
            group = self.changed.pop(0)
            if not group.done:
                self.advance(group)

    def advance(self, group: Group) -> None:
        if not group.active and group.working is not None:
            if group.working.open:
                return
            if group.working.status == "FILLED":
                self.activate(group, group.working)
                return
            for leg in group.rest:
                self.end(leg, "EXPIRED", "EXPIRED")
        decided = len(group.rest) == 2 and not all(leg.open for leg in group.rest)
        if decided:
            for leg in group.rest:
                if leg.open and not leg.done and not (leg.is_stop and leg.fired):
                    self.end(leg, "EXPIRED", "EXPIRED")
        if decided or not any(leg.open for leg in group.legs):
            self.finish(group)

    def activate(self, group: Group, working: Row) -> None:
        group.active = True
        if group.onward:
            steps = working.done * KEPT // Decimal("0.00001")
            for leg in group.rest:
                leg.quantity = steps * Decimal("0.00001")
        dearest = max(group.rest, key=lambda leg: leg.need)
        fits = bool(dearest.left) and self.free(group.owner, dearest.asset) >= dearest.need
        for leg in group.rest:
            fits = fits and not (leg.stop and not leg.delta and leg.reached_by(self.last))
            fits = fits and not (leg.maker_only and self.best_against(leg))
        if not fits:
            for leg in group.rest:
                self.end(leg, "EXPIRED", "EXPIRED")
            return
        self.set_lock(dearest, dearest.need)
        for leg in group.rest:
            leg.status = "NEW"
            self.tell(leg, "NEW")
        for leg in group.rest:
            self.start(leg)

    def finish(self, group: Group) -> None:
        group.done = True
        self.told.append((group.owner, "LIST", group.name, True))

    # --- accounts ---------------------------------------------------------------------------------------

    def locked(self, owner: int, asset: str) -> Decimal:
        return sum((row.lock for row in self.rows if (row.owner, row.asset) == (owner, asset)), ZERO)

    def free(self, owner: int, asset: str) -> Decimal:
        return self.money[(owner, asset)] - self.locked(owner, asset)

    def set_lock(self, row: Row, amount: Decimal) -> None:
        if amount != row.lock:
            self.touched.add((row.owner, row.asset))
        row.lock = amount

    def too_many(self, owner: int, new: list[Row]) -> str | None:
        present = sum(row.owner == owner and row.open and row.is_stop for row in self.rows)
        added = sum(row.is_stop for row in new)
        return "Filter failure: MAX_NUM_ALGO_ORDERS" if added and present + added > STOPS_MAX else None

    def tell(self, row: Row, how: str, quantity: Decimal = ZERO, price: int = 0) -> None:
        self.told.append((row.owner, how, row.name, row.status, quantity, price, row.done, row.lost))
        if row.group is not None and row.group not in self.changed:
            self.changed.append(row.group)

    def end_command(self) -> None:
        """Lists draw their consequences; then each account hears the balances that were touched, once."""
        self.follow()
        for owner in sorted({owner for owner, _ in self.touched}):
            assets = sorted(asset for who, asset in self.touched if who == owner)
            balances = {asset: (self.free(owner, asset), self.locked(owner, asset)) for asset in assets}
            self.told.append((owner, "BALANCES", balances))
        self.touched.clear()
