"""Panels: server-rendered fragments with a name. Pages are composed of them by name, not by import.

The same function renders a panel for the page, for a re-fetch over HTTP and for a patch over the socket,
always for its own user, so that permission and language are judged in one place.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.http import Http404
from django.template.loader import render_to_string

KEYS_MAX = 20
KEY_LENGTH_MAX = 96
# On every page, beside what the page itself shows.
SHELL_KEYS = ("shell", "badge:pending", "badge:alerts")


class UnknownPanel(Http404):
    """No panel has that name, or its row does not exist: a page that asks for it is answered with 404."""


@dataclass(frozen=True, slots=True)
class Panel:
    """`context(user, argument)` gives the template's values; `topics` are the announcements that dirty it.

    `keyed_by` is the topic whose row id is the panel's argument: another row's news leaves it clean.
    """

    name: str
    template: str
    topics: frozenset[str]
    context: Callable[[Any, str], dict[str, Any]]
    keyed_by: str = ""

    def is_dirtied_by(self, argument: str, *, topic: str, row_id: str) -> bool:
        """Whether an announcement may have changed what this panel shows for `argument`."""
        if topic not in self.topics:
            return False
        return topic != self.keyed_by or row_id == argument


_registry: dict[str, Panel] = {}


def panel(
    name: str, *, template: str, topics: set[str], keyed_by: str = ""
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated `context(user, argument)` as the panel `name`."""

    def register(context: Callable[[Any, str], dict[str, Any]]) -> Callable[[Any, str], dict[str, Any]]:
        _registry[name] = Panel(
            name=name, template=template, topics=frozenset(topics), context=context, keyed_by=keyed_by
        )
        return context

    return register


def find(key: str) -> tuple[Panel, str]:
    """The panel and the argument of `name` or `name:argument`; raises UnknownPanel."""
    name, _, argument = key.partition(":")
    if name not in _registry or len(key) > KEY_LENGTH_MAX:
        raise UnknownPanel(f"there is no panel {name!r:.40}")
    return _registry[name], argument


def parse_keys(text: str) -> tuple[str, ...]:
    """The panel keys of a comma-separated list, each once; raises UnknownPanel for one that does not exist."""
    keys = tuple(dict.fromkeys(key for key in text.split(",") if key))
    if not keys or len(keys) > KEYS_MAX:
        raise UnknownPanel(f"ask for 1 to {KEYS_MAX} panels")
    for key in keys:
        find(key)
    return keys


def element_id(key: str) -> str:
    """The id of the element that holds the panel: stable, so that a patch finds its place."""
    return "panel-" + key.replace(":", "-")


def socket_address(keys: Iterable[str]) -> str:
    """Where the page with these panels gets its patches from."""
    return "/ws/desk/?" + urlencode({"panels": ",".join((*SHELL_KEYS, *keys))}, safe=":,")


def render(key: str, *, user: Any, out_of_band: bool = False, typed: Mapping[str, Any] | None = None) -> str:
    """The panel's HTML, wrapped in its element; `out_of_band` marks it as a patch for htmx.

    `typed` is what a person had entered into a plain form that was refused: its fields are filled with it.
    """
    found, argument = find(key)
    return render_to_string(
        "core/panel.html",
        {
            "element_id": element_id(key),
            "key": key,
            "template": found.template,
            "out_of_band": out_of_band,
            "user": user,
            "typed": typed or {},
            **found.context(user, argument),
        },
    )
