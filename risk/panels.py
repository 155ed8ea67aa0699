"""Panels of risk and what they read."""
