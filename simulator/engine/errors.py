"""Binance's error codes and texts (binance.md §4, errors.md of binance-spot-api-docs)."""

from __future__ import annotations

from typing import Any


class ExchangeError(Exception):
    """A refusal that a client sees as {"code", "msg"}, some with `data`, and the HTTP status."""

    def __init__(
        self,
        code: int,
        message: str,
        status: int = 400,
        retry_after_s: int | None = None,
        data: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(f"{code} {message}")
        self.code = code
        self.message = message
        self.status = status
        self.retry_after_s = retry_after_s
        self.data = data

    def body(self) -> dict[str, Any]:
        """The JSON of the refusal."""
        body: dict[str, Any] = {"code": self.code, "msg": self.message}
        return body if self.data is None else body | {"data": self.data}


class ConservationError(AssertionError):
    """The books do not add up: a bug in the simulator, never a client's fault."""


def filter_failure(name: str) -> ExchangeError:
    """A rule of the symbol that can be checked before the matching engine."""
    return ExchangeError(-1013, f"Filter failure: {name}")


def account_filter_failure(name: str) -> ExchangeError:
    """A rule that depends on the account's open orders; the engine refuses it with -2010."""
    return ExchangeError(-2010, f"Filter failure: {name}")


def rejected(message: str) -> ExchangeError:
    return ExchangeError(-2010, message)


def missing_parameter(name: str) -> ExchangeError:
    return ExchangeError(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")


def unneeded_parameter(name: str) -> ExchangeError:
    return ExchangeError(-1106, f"Parameter '{name}' sent when not required.")


def invalid_parameter(name: str) -> ExchangeError:
    return ExchangeError(-1130, f"Data sent for parameter '{name}' is not valid.")


def illegal_characters(name: str, legal: str) -> ExchangeError:
    return ExchangeError(-1100, f"Illegal characters found in parameter '{name}'; legal range is '{legal}'.")


def too_precise(name: str) -> ExchangeError:
    return ExchangeError(-1111, f"Parameter '{name}' has too much precision.")


def invalid_symbol() -> ExchangeError:
    return ExchangeError(-1121, "Invalid symbol.")


def unknown_order() -> ExchangeError:
    return ExchangeError(-2013, "Order does not exist.")


def cancel_rejected() -> ExchangeError:
    return ExchangeError(-2011, "Unknown order sent.")


def insufficient_balance() -> ExchangeError:
    return rejected("Account has insufficient balance for requested action.")
