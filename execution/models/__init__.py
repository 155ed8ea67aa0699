"""Tables of execution: intents, orders, lifecycle events, fills, positions, reconciliation.

Written by execution.services only. `environment` is in every key, so that environments never mix.
"""

from execution.models.account import Account, AccountBalance, BalanceMovement, EquityPoint, current_ledger
from execution.models.orders import ExecutionIntent, Order, OrderCancel, OrderLifecycleEvent, OrderTest, Probe
from execution.models.positions import Fill, Lot, LotClosing, Position, ProtectionGap
from execution.models.reconciliation import (
    Divergence,
    OperatorRequest,
    ReconciliationRequest,
    ReconciliationRun,
)

__all__ = [
    "Account",
    "AccountBalance",
    "BalanceMovement",
    "Divergence",
    "EquityPoint",
    "ExecutionIntent",
    "Fill",
    "Lot",
    "LotClosing",
    "OperatorRequest",
    "Order",
    "OrderCancel",
    "OrderLifecycleEvent",
    "OrderTest",
    "Position",
    "Probe",
    "ProtectionGap",
    "ReconciliationRequest",
    "ReconciliationRun",
    "current_ledger",
]
