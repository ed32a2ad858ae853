"""Finds jobs that are counted as running, but run nowhere.

That is normal while they are handed over. After a fault it would cost the worker slots for good.
"""

from collections.abc import Callable


class LostJobs:
    """Looked at now and then.

    Args:
        counted: jobs that the schedule holds slots for.
        run: jobs that have a task.
        after_s: a difference that lasts this long is none of a hand-over.
    """

    def __init__(
        self, counted: Callable[[], int], run: Callable[[], int], *, after_s: float
    ) -> None:
        self._counted = counted
        self._run = run
        self._after_s = after_s
        self._since_s: float | None = None

    def look(self, now_s: float) -> int:
        """How many have been missing for too long; 0: none. `now_s` is monotonic."""
        missing = self._counted() - self._run()
        if missing <= 0:
            self._since_s = None
            return 0
        if self._since_s is None:
            self._since_s = now_s
        return missing if now_s - self._since_s >= self._after_s else 0
