"""Panels of execution. Importing them registers them."""

from execution.panels import account, decision, ledger, orders, reconciliation, review

__all__ = ["account", "decision", "ledger", "orders", "reconciliation", "review"]
