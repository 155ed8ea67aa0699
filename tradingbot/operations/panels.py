"""Panels that span the apps."""
