"""How often a member of a group asks its coordinator whether the group is rebalanced.

A rebalance lasts until the slowest member has asked, and a replica that joins waits for two of them (cooperative
protocol: partitions are first given up, then given). An idle member costs a broker and itself little else.
"""

import time
from collections.abc import Callable
from typing import Final

from functions.settings import BrokerSettings

SETTLING_S: Final = 10.0
"""A group that has just rebalanced is likely to do it again: replicas come one after another."""


class Heartbeats:
    """Often with work, before the first share and while the group settles; seldom otherwise."""

    def __init__(
        self,
        settings: BrokerSettings,
        session_ms: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # A lost heartbeat must leave time for others before the session ends.
        self._often_ms = self._seldom_ms = most_ms = session_ms // 4
        if settings.kind != "embedded":
            idle_s = max(settings.heartbeat_s, settings.heartbeat_idle_s)
            self._often_ms = min(int(1000 * settings.heartbeat_s), most_ms)
            self._seldom_ms = min(int(1000 * idle_s), most_ms)
        self._clock = clock
        self._is_expecting = False
        self._generation: int | None = None
        self._settled_s = clock() + SETTLING_S

    def expect(self, *, soon: bool) -> None:
        """Whether there is work, or will be soon."""
        self._is_expecting = soon

    def interval_ms(self, generation: int | None = None) -> int:
        """Milliseconds between two heartbeats from now on.

        `generation` is the group's as this member knows it, below 0 before it has joined; None: as last told.
        """
        if generation is not None and (generation != self._generation or generation < 0):
            self._generation = generation
            self._settled_s = self._clock() + SETTLING_S
        if self._is_expecting or self._clock() < self._settled_s:
            return self._often_ms
        return self._seldom_ms
