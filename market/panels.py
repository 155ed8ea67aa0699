"""Panels of market and what they read."""
