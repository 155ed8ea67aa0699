"""Panels: server-rendered fragments with a name. Pages are composed of them by name, not by import.

The same function renders a panel for the page, for a re-fetch over HTTP and for a patch over the socket,
always for its own user, so that permission and language are judged in one place.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.template.loader import render_to_string


class UnknownPanel(LookupError):
    """No panel has that name, or its row does not exist."""


@dataclass(frozen=True, slots=True)
class Panel:
    """`context(user, argument)` gives the template's values; `topics` are the announcements that dirty it."""

    name: str
    template: str
    topics: frozenset[str]
    context: Callable[[Any, str], dict[str, Any]]


_registry: dict[str, Panel] = {}


def panel(
    name: str, *, template: str, topics: set[str]
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register the decorated `context(user, argument)` as the panel `name`."""

    def register(context: Callable[[Any, str], dict[str, Any]]) -> Callable[[Any, str], dict[str, Any]]:
        _registry[name] = Panel(name=name, template=template, topics=frozenset(topics), context=context)
        return context

    return register


def find(key: str) -> tuple[Panel, str]:
    """The panel and the argument of `name` or `name:argument`; raises UnknownPanel."""
    name, _, argument = key.partition(":")
    if name not in _registry:
        raise UnknownPanel(f"there is no panel {name!r:.40}")
    return _registry[name], argument


def element_id(key: str) -> str:
    """The id of the element that holds the panel: stable, so that a patch finds its place."""
    return "panel-" + key.replace(":", "-")


def render(key: str, *, user: Any, out_of_band: bool = False) -> str:
    """The panel's HTML, wrapped in its element; `out_of_band` marks it as a patch for htmx."""
    found, argument = find(key)
    return render_to_string(
        "core/panel.html",
        {
            "element_id": element_id(key),
            "key": key,
            "template": found.template,
            "out_of_band": out_of_band,
            "user": user,
            **found.context(user, argument),
        },
    )
