"""Double-entry balances: every change moves an amount between two places, so each asset's total stays 0."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from enum import IntEnum

from simulator.decimals import ZERO
from simulator.engine.contracts import Account, Balance
from simulator.engine.errors import ConservationError


class House(IntEnum):
    """Parties that are not clients. MARKET and OUTSIDE may owe: they stand for the rest of the world."""

    MARKET = -1
    FEES = -2
    OUTSIDE = -3


class Ledger:
    """Balances of clients and house. Clients never go below zero; the sum over all is always zero."""

    def __init__(self) -> None:
        self.accounts: dict[int, Account] = {}
        self.house: dict[House, dict[str, Decimal]] = {party: defaultdict(Decimal) for party in House}
        self.touched: set[tuple[int, str]] = set()
        self._totals: dict[str, Decimal] = defaultdict(Decimal)

    def balance(self, account_id: int, asset: str) -> Balance:
        return self.accounts[account_id].balances.setdefault(asset, Balance())

    def transfer(
        self,
        asset: str,
        amount: Decimal,
        payer: int,
        payee: int,
        *,
        from_locked: bool = False,
    ) -> None:
        """Move `amount` from payer (free, or locked) to payee (free)."""
        if amount == ZERO:
            return
        assert amount > ZERO
        self._change(payer, asset, -amount, locked=from_locked)
        self._change(payee, asset, amount, locked=False)

    def lock(self, account_id: int, asset: str, amount: Decimal) -> None:
        self._change(account_id, asset, -amount, locked=False)
        self._change(account_id, asset, amount, locked=True)

    def unlock(self, account_id: int, asset: str, amount: Decimal) -> None:
        if amount:
            self._change(account_id, asset, -amount, locked=True)
            self._change(account_id, asset, amount, locked=False)

    def restore(self, account: Account) -> None:
        """Put a saved account back; the totals are right once the house is back, too."""
        self.accounts[account.account_id] = account
        for asset, balance in account.balances.items():
            self._totals[asset] += balance.free + balance.locked

    def restore_house(self, party: House, asset: str, amount: Decimal) -> None:
        self.house[party][asset] = amount
        self._totals[asset] += amount

    def clear(self) -> None:
        """Forget every balance; the accounts stay."""
        for account in self.accounts.values():
            account.balances = {}
        for amounts in self.house.values():
            amounts.clear()
        self.touched.clear()
        self._totals.clear()

    def check_touched(self) -> None:
        """Raise ConservationError unless every asset changed since the last check still sums to zero."""
        for _, asset in self.touched:
            if self._totals[asset] != ZERO:
                raise ConservationError(f"{asset} does not sum to zero but to {self._totals[asset]}")

    def recount(self) -> dict[str, Decimal]:
        """Totals per asset added up afresh from every balance; each must be zero."""
        totals: dict[str, Decimal] = defaultdict(Decimal)
        for account in self.accounts.values():
            for asset, balance in account.balances.items():
                totals[asset] += balance.free + balance.locked
        for amounts in self.house.values():
            for asset, amount in amounts.items():
                totals[asset] += amount
        return dict(totals)

    def _change(self, party: int, asset: str, amount: Decimal, *, locked: bool) -> None:
        self.touched.add((party, asset))
        self._totals[asset] += amount
        if party < 0:
            assert not locked
            self.house[House(party)][asset] += amount
            return
        balance = self.balance(party, asset)
        if locked:
            balance.locked += amount
        else:
            balance.free += amount
        if balance.free < ZERO or balance.locked < ZERO:
            raise ConservationError(f"account {party}: {asset} went below zero: {balance}")
