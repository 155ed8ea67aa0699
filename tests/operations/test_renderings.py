"""A panel is rendered once for all pages of one person that want it, and never from before they were told."""

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from tradingbot.core import panels
from tradingbot.operations import renderings
from tradingbot.operations.renderings import Renderings

ANNA, BEN = SimpleNamespace(pk=1), SimpleNamespace(pk=2)


class Book:
    """What panels show; each rendering is counted, and may be held up in the middle."""

    def __init__(self) -> None:
        self.value = 1
        self.rendered: list[str] = []
        self.read = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    def render(self, key: str, *, user: Any, out_of_band: bool) -> str:
        shown = f"{key} {user.pk} {self.value}"
        self.rendered.append(shown)
        self.read.set()
        assert self.go_on.wait(30)
        if key == "gone":
            raise panels.UnknownPanel(key)
        if key == "broken":
            raise RuntimeError(key)
        return shown


@pytest.fixture
def book(monkeypatch: pytest.MonkeyPatch) -> Book:
    book = Book()
    monkeypatch.setattr(panels, "render", book.render)
    monkeypatch.setattr(renderings, "database_sync_to_async", sync_to_async)  # no database is needed here
    return book


def now() -> float:
    return asyncio.get_running_loop().time()


def test_pages_of_one_person_that_ask_together_share_a_rendering(book: Book) -> None:
    async def ask() -> list[Any]:
        shared, at = Renderings(), now()
        return await asyncio.gather(*(shared.of("queue", ANNA, dirty_at=at) for _ in range(20)))

    answers = asyncio.run(ask())

    assert book.rendered == ["queue 1 1"]
    assert len(set(answers)) == 1


def test_people_and_panels_do_not_share(book: Book) -> None:
    async def ask() -> None:
        shared, at = Renderings(), now()
        wanted = [("queue", ANNA), ("queue", BEN), ("shell", ANNA)]
        await asyncio.gather(*(shared.of(key, user, dirty_at=at) for key, user in wanted))

    asyncio.run(ask())

    assert sorted(book.rendered) == ["queue 1 1", "queue 2 1", "shell 1 1"]


def test_change_during_a_rendering_is_rendered_anew(book: Book) -> None:
    """It may have read the rows before the commit."""

    async def ask() -> tuple[str, bytes] | None:
        shared = Renderings()
        book.go_on.clear()
        first = asyncio.create_task(shared.of("queue", ANNA, dirty_at=now()))
        assert await asyncio.to_thread(book.read.wait, 30)
        book.value = 2
        told = now()
        second = asyncio.create_task(shared.of("queue", ANNA, dirty_at=told))
        await asyncio.sleep(0)
        book.go_on.set()
        await first
        return await second

    answer = asyncio.run(ask())

    assert answer is not None
    assert answer[0] == "queue 1 2"


def test_rendering_of_before_the_change_is_not_given_out(book: Book) -> None:
    async def ask() -> tuple[str, bytes] | None:
        shared = Renderings()
        await shared.of("queue", ANNA, dirty_at=now())
        book.value = 2
        return await shared.of("queue", ANNA, dirty_at=now())

    answer = asyncio.run(ask())

    assert answer is not None
    assert answer[0] == "queue 1 2"


def test_page_that_leaves_does_not_end_it_for_the_others(book: Book) -> None:
    async def ask() -> tuple[str, bytes] | None:
        shared, at = Renderings(), now()
        book.go_on.clear()
        leaves = asyncio.create_task(shared.of("queue", ANNA, dirty_at=at))
        stays = asyncio.create_task(shared.of("queue", ANNA, dirty_at=at))
        assert await asyncio.to_thread(book.read.wait, 30)
        leaves.cancel()
        await asyncio.gather(leaves, return_exceptions=True)
        book.go_on.set()
        return await stays

    answer = asyncio.run(ask())

    assert answer is not None
    assert book.rendered == ["queue 1 1"]


def test_panel_whose_row_is_gone_is_none_and_a_failure_is_tried_again(book: Book) -> None:
    async def ask() -> None:
        shared = Renderings()
        assert await shared.of("gone", ANNA, dirty_at=now()) is None
        at = now()
        for _ in range(2):
            with pytest.raises(RuntimeError):
                await shared.of("broken", ANNA, dirty_at=at)

    asyncio.run(ask())

    assert book.rendered == ["gone 1 1", "broken 1 1", "broken 1 1"]
