"""A work queue: each key is in it at most once, and comes back later and later after failures."""

import heapq
import threading
from typing import Final

from functions.ports.clock import Clock
from functions.runtime.backoff import Backoff

BACKOFF: Final = Backoff(0.2, 60.0)


class WorkQueue:
    """Keys of objects that need a look. Thread-safe; one key is worked on by one thread at a time.

    A key that is added while it is worked on comes again afterwards, so that no change is missed.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._condition = threading.Condition()
        self._due: list[tuple[float, str]] = []
        self._when: dict[str, float] = {}
        """When each queued key is due; an entry of the heap that says otherwise is stale."""
        self._working: set[str] = set()
        self._again: dict[str, float] = {}
        self._failures: dict[str, int] = {}
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._when)

    def add(self, key: str, after_s: float = 0.0) -> None:
        """Queues the key, or brings it forward."""
        with self._condition:
            self._put(key, self._clock.monotonic_s() + after_s)

    def take(self, timeout_s: float) -> str | None:
        """The next due key, or None after `timeout_s` or `close`. Give it back with `done`."""
        with self._condition:
            give_up_s = self._clock.monotonic_s() + timeout_s
            while not self._is_closed:
                now_s = self._clock.monotonic_s()
                key = self._pop(now_s)
                if key is not None:
                    self._working.add(key)
                    return key
                left_s = give_up_s - now_s
                if left_s <= 0:
                    return None
                self._condition.wait(min(left_s, self._next_s(now_s)))
            return None

    def done(self, key: str, *, failed: bool) -> None:
        """Ends the work on a key. A failed one comes again, later each time, up to a minute."""
        with self._condition:
            self._working.discard(key)
            again_s = self._again.pop(key, None)
            if not failed:
                self._failures.pop(key, None)
            else:
                tries = self._failures[key] = self._failures.get(key, 0) + 1
                self._put(key, self._clock.monotonic_s() + BACKOFF.delay_s(tries))
                return  # what was added meanwhile waits for the retry
            if again_s is not None:
                self._put(key, again_s)

    def close(self) -> None:
        with self._condition:
            self._is_closed = True
            self._condition.notify_all()

    def _put(self, key: str, due_s: float) -> None:
        if key in self._working:
            self._again[key] = min(due_s, self._again.get(key, due_s))
            return
        known_s = self._when.get(key)
        if known_s is not None and known_s <= due_s:
            return
        self._when[key] = due_s
        heapq.heappush(self._due, (due_s, key))
        self._condition.notify_all()

    def _pop(self, now_s: float) -> str | None:
        while self._due and self._due[0][0] <= now_s:
            due_s, key = heapq.heappop(self._due)
            if self._when.get(key) == due_s:
                del self._when[key]
                return key
        return None

    def _next_s(self, now_s: float) -> float:
        return max(0.001, self._due[0][0] - now_s) if self._due else BACKOFF.most_s
