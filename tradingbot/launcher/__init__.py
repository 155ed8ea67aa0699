"""Starts, watches and stops the product as plain processes; knows neither Django nor Celery from the inside.

`python -m tradingbot.launcher run` is `make run`; `with-servers` lends private servers to one command.
"""
