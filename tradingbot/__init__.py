"""The project: settings, wiring, ground floor (core) and roof (operations)."""
