"""Panels of proposals and what they read."""
