"""Contradictory settings stop the boot with one line each."""

from typing import Any

import pytest

from tradingbot import checks
from tradingbot.core.environments import Environment


@pytest.fixture
def live(settings: Any) -> Any:
    """Settings of a sound live environment."""
    settings.TRADING_ENVIRONMENT = Environment.LIVE
    settings.TRADING_ENABLED = False
    settings.SESSION_COOKIE_SECURE = settings.CSRF_COOKIE_SECURE = True
    settings.ADVISOR_IS_REHEARSAL = False
    settings.DEBUG = False
    return settings


def found() -> list[str]:
    return [str(m.id) for m in (*checks.check_live(), *checks.check_symbols())]


def test_the_settings_of_the_tests_are_sound() -> None:
    assert found() == []


def test_sound_live_settings_pass(live: Any) -> None:
    assert found() == []


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("DEBUG", True, "tradingbot.E010"),
        ("CSRF_COOKIE_SECURE", False, "tradingbot.E011"),
        ("SESSION_COOKIE_SECURE", False, "tradingbot.E011"),
        ("ALLOWED_HOSTS", ["*"], "tradingbot.E012"),
        ("TRADING_ENABLED", True, "tradingbot.E013"),
        ("ADVISOR_IS_REHEARSAL", True, "tradingbot.E014"),
    ],
)
def test_each_unsound_live_setting_is_an_error(live: Any, name: str, value: Any, code: str) -> None:
    setattr(live, name, value)

    assert found() == [code]


def test_the_same_settings_are_fine_on_the_simulator(settings: Any) -> None:
    settings.SESSION_COOKIE_SECURE = False
    settings.TRADING_ENABLED = True

    assert found() == []


@pytest.mark.parametrize(
    ("symbols", "code"),
    [
        ((), "tradingbot.E001"),
        (("BTCEUR",), "tradingbot.E002"),
        (("USDT",), "tradingbot.E002"),
        (("BTCUSDT", "BTCUSDT"), "tradingbot.E002"),
    ],
)
def test_symbols_that_cannot_be_traded_are_an_error(
    settings: Any, symbols: tuple[str, ...], code: str
) -> None:
    settings.SYMBOLS = symbols

    assert found() == [code]


def test_the_environments_own_keys_are_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINANCE_SIMULATOR_API_KEY", "obviously-fake")

    assert checks.check_foreign_keys() == []


def test_a_key_of_another_environment_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINANCE_LIVE_API_SECRET_FILE", "/nowhere/fake")

    (warning,) = checks.check_foreign_keys()

    assert warning.msg.startswith("BINANCE_LIVE_API_SECRET_FILE is set")
