"""Panels of execution and what they read."""
