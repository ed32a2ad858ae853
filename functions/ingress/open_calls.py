"""Open calls of this replica, so that shutdown can end them. Event loop only."""

import asyncio
from typing import Any

from functions.runtime.errors import ApiError


class OpenCalls:
    """The tasks of all open calls."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self.is_closing = False
        """From here on a call that is cancelled is told why, instead of being cut."""

    def __len__(self) -> int:
        return len(self._tasks)

    def enter(self) -> asyncio.Task[Any]:
        """Counts the call that runs in the current task, until `leave`."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a call is handled in a task")
        self._tasks.add(task)
        return task

    def leave(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)

    def close(self) -> None:
        """Ends every open call: shutdown has waited for them as long as it may."""
        self.is_closing = True
        for task in tuple(self._tasks):
            task.cancel()


def shutting_down() -> ApiError:
    """The refusal for calls that shutdown ends. They may be retried."""
    return ApiError("not_ready", "This replica is shutting down; try again.")
