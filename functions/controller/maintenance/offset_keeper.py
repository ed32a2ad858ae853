"""Commits missing offsets of consumer groups, at start and daily.

A group that sleeps longer than the broker keeps offsets has none when it is needed.
KEDA then sees no lag, or the whole log, and wakes a model never or for nothing.
"""

import logging
from collections.abc import Callable, Mapping
from typing import Final

from functions.ports.clock import Clock
from functions.ports.kafka import LagReader
from functions.runtime.missing_offsets import OffsetCommitter, find_missing_offsets
from functions.runtime.telemetry import ControllerMetrics

log = logging.getLogger(__name__)

RETRY_S: Final = 30.0
ABSENT_S: Final = 300.0


class OffsetKeeper:
    """`tick` blocks while the broker answers, so it belongs to a thread of its own."""

    def __init__(
        self,
        open_reader: Callable[[], LagReader],
        committer: OffsetCommitter,
        groups: Mapping[str, tuple[str, ...]],
        clock: Clock,
        every_s: float,
        metrics: ControllerMetrics,
    ) -> None:
        self._open_reader = open_reader
        self._committer = committer
        self._groups = groups
        self._clock = clock
        self._every_s = every_s
        self._metrics = metrics
        self._due_s = clock.monotonic_s()

    def tick(self) -> int:
        """Looks when it is time; returns how many partitions got an offset."""
        now_s = self._clock.monotonic_s()
        if now_s < self._due_s:
            return 0
        self._due_s = now_s + self._every_s
        try:
            return self._look()
        except Exception as error:  # noqa: BLE001 - whatever the client raises: the broker is away
            log.warning("offsets not looked at", extra={"reason": type(error).__name__})
            self._due_s = now_s + RETRY_S
            return 0

    def _look(self) -> int:
        reader = self._open_reader()
        try:
            offsets_by_group = reader.lags(self._groups)
        finally:
            reader.close()
        if not all(offsets_by_group.values()):
            # A topic that is not there yet has no partition to commit on: soon it may.
            self._due_s = self._clock.monotonic_s() + ABSENT_S
        count = 0
        for group, offsets in offsets_by_group.items():
            wanted = find_missing_offsets(offsets)
            if wanted and self._committer.commit(group, wanted):
                log.info("offsets committed", extra={"group": group, "partitions": len(wanted)})
                self._metrics.offsets.labels(group).inc(len(wanted))
                count += len(wanted)
        return count
