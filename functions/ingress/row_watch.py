"""Waits for changes of requests in the store: one query for all waiters. Event loop only.

Polls, joined calls and event streams may be hundreds. A query of each would overload the store's
threads and the loop.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from functions.ports.store import Mark
from functions.runtime.errors import StoreFailed

POLL_S: Final = 0.05
"""Between two looks; a look of many takes longer, and then the pause is as long as the look."""
Ask = Callable[[Sequence[str]], Awaitable[Mapping[str, Mark]]]


class _Waiting:
    __slots__ = ("changed", "failure", "is_news")

    def __init__(self, is_news: Callable[[Mark | None], bool]) -> None:
        self.is_news = is_news
        self.failure: StoreFailed | None = None
        self.changed = asyncio.Event()


class RowWatch:
    """Waiters for rows. One task queries the store while there are any."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[_Waiting]] = {}
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    async def wait(
        self, ask: Ask, request_id: str, is_news: Callable[[Mark | None], bool], timeout_s: float
    ) -> bool:
        """Waits until `is_news` of the request's mark (None: not there any more); False when `timeout_s` passed.

        `ask` returns the marks of ids; what it does not know is left out.

        Raises:
            StoreFailed: a look failed.
        """
        mine = _Waiting(is_news)
        self._waiting.setdefault(request_id, set()).add(mine)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look(ask))
        try:
            async with asyncio.timeout(max(0.0, timeout_s)):
                await mine.changed.wait()
        except TimeoutError:
            return False
        finally:
            others = self._waiting[request_id]
            others.discard(mine)
            if not others:
                del self._waiting[request_id]
        if mine.failure is not None:
            raise mine.failure
        return True

    async def _look(self, ask: Ask) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            began = loop.time()
            ids = tuple(self._waiting)
            try:
                marks = await ask(ids)
            except StoreFailed as error:
                self._fail(error)
            else:
                self._tell(ids, marks)
            await asyncio.sleep(max(POLL_S, loop.time() - began))

    def _fail(self, error: StoreFailed) -> None:
        for waiting in self._waiting.values():
            for one in waiting:
                one.failure = error
                one.changed.set()

    def _tell(self, ids: Sequence[str], marks: Mapping[str, Mark]) -> None:
        for request_id in ids:
            mark = marks.get(request_id)
            for one in self._waiting.get(request_id, ()):
                if one.is_news(mark):
                    one.changed.set()
