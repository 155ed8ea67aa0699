"""Proposals' only way to the network."""
