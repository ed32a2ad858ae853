"""Liveness and readiness: whether the process is alive, and a request can succeed now."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from functions.ports.clock import Clock

LOOP_FRESH_S: Final = 10.0
"""An append, a request's or the probe's, must have succeeded within this long."""
DOWN_S: Final = 2.0
"""Appends that have failed for this long are not tried again for a caller: the probe finds out when they may be."""


@dataclass(frozen=True, slots=True)
class ReadinessCheck:
    """One condition of readiness."""

    name: str
    is_met: bool


class Health:
    """Recent state of the broker. Thread-safe: used by producer callbacks, consumers and the loop.

    `conditions` are checked each time: consumers caught up, catalogue loaded.
    """

    def __init__(self, clock: Clock, conditions: Callable[[], tuple[ReadinessCheck, ...]]) -> None:
        self._clock = clock
        self._conditions = conditions
        self._lock = threading.Lock()
        self._good_at_s: float | None = None
        self._is_failing = False
        self._is_draining = False

    def note_append(self) -> None:
        """An append was acknowledged."""
        with self._lock:
            self._good_at_s = self._clock.monotonic_s()
            self._is_failing = False

    def note_failure(self) -> None:
        """An append failed: not ready until one succeeds."""
        with self._lock:
            self._is_failing = True

    def drain(self) -> None:
        """Shutdown has begun: not ready any more."""
        self._is_draining = True

    @property
    def is_draining(self) -> bool:
        return self._is_draining

    def is_down(self) -> bool:
        """Whether the cluster has taken no writes for a while, so that calls are refused at once."""
        with self._lock:
            at = self._good_at_s
            if at is None:
                return True
            return self._is_failing and self._clock.monotonic_s() - at > DOWN_S

    def is_quiet(self, for_s: float) -> bool:
        """Nothing was appended for that long (so a probe is due), or the last append failed."""
        with self._lock:
            at = self._good_at_s
            return self._is_failing or at is None or self._clock.monotonic_s() - at >= for_s

    def checks(self) -> tuple[ReadinessCheck, ...]:
        """Every condition of readiness, met or not."""
        with self._lock:
            at, failing = self._good_at_s, self._is_failing
        fresh = at is not None and self._clock.monotonic_s() - at <= LOOP_FRESH_S
        return (
            *self._conditions(),
            ReadinessCheck("broker_writable", fresh and not failing),
            ReadinessCheck("not_draining", not self._is_draining),
        )

    def is_ready(self) -> bool:
        return all(check.is_met for check in self.checks())
