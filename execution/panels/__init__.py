"""Panels of execution. Importing them registers them."""

from execution.panels import account, decision, orders, reconciliation

__all__ = ["account", "decision", "orders", "reconciliation"]
