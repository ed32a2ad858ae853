"""Whether consumer groups make progress.

A group with lag that commits nothing new for a long time makes none, whatever its members report.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from events.event import PartitionId
from functions.ports.clock import Clock
from functions.ports.kafka import LagReader, Offsets
from functions.runtime.restarting_thread import RestartingThread
from functions.runtime.telemetry import Metrics

_LOOKS: Final = 6
"""Looks within the time after which a partition counts as stalled."""
_LONGEST_LOOK_S: Final = 15.0
_MARKS: Final = 16
"""More producers than write into one partition in transactions that end together."""
_GROWTHS: Final = 2
"""Transactions that end together leave their marks at one look; records that keep coming are seen at several."""

log = logging.getLogger(__name__)

Groups = Mapping[str, tuple[str, ...]]
"""Topics by consumer group."""


@dataclass(slots=True)
class _Stand:
    """Where a partition stands since its commit moved last, or since it had no lag."""

    committed: int | None
    since_s: float
    end: int
    growths: int = 0
    """Looks at which there was more to read than before."""


class GroupProgress:
    """Progress of one group, from reading to reading.

    A partition is stalled if it has lag and its commit has not moved for `stalled_s`. A few offsets
    do not count: they may be end marks of foreign transactions, which nobody can read.
    """

    def __init__(self, stalled_s: float) -> None:
        self._stalled_s = stalled_s
        self._stands: dict[PartitionId, _Stand] = {}
        self.lagging: frozenset[PartitionId] = frozenset()
        self.stalled: frozenset[PartitionId] = frozenset()

    def look(self, offsets: Mapping[PartitionId, Offsets], now_s: float) -> None:
        """Takes in what is committed now; `now_s` is monotonic."""
        for place in self._stands.keys() - offsets.keys():
            del self._stands[place]
        for place, offsets_now in offsets.items():
            stand = self._stands.get(place)
            if stand is None or stand.committed != offsets_now.committed or not offsets_now.lag:
                self._stands[place] = _Stand(offsets_now.committed, now_s, offsets_now.end)
            elif offsets_now.end > stand.end:
                stand.end = offsets_now.end
                stand.growths += 1
        self.lagging = frozenset(place for place, offsets_now in offsets.items() if offsets_now.lag)
        self.stalled = frozenset(
            place for place in self.lagging if self._is_stalled(place, offsets[place].lag, now_s)
        )

    def _is_stalled(self, place: PartitionId, lag: int, now_s: float) -> bool:
        stand = self._stands[place]
        is_more_than_marks = stand.growths >= _GROWTHS or lag > _MARKS
        return is_more_than_marks and now_s - stand.since_s >= self._stalled_s

    @property
    def is_stopped(self) -> bool:
        """Nothing of what waits gets anywhere: not one partition alone, but all that have lag."""
        return bool(self.stalled) and self.stalled == self.lagging


class ProgressWatch:
    """Looks at groups on a thread of its own; what it says is as old as its last look that succeeded."""

    def __init__(
        self,
        open_reader: Callable[[], LagReader],
        groups: Groups,
        *,
        stalled_s: float,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._open_reader = open_reader
        self._groups = dict(groups)
        self._look_s = min(_LONGEST_LOOK_S, stalled_s / _LOOKS)
        self._clock = clock
        self._metrics = metrics
        self._progress = {group: GroupProgress(stalled_s) for group in groups}
        self._following = RestartingThread(self._follow, name="progress", retry_s=self._look_s)

    def start(self) -> None:
        self._following.start()

    def close(self) -> None:
        self._following.close()

    def is_moving(self, group: str) -> bool:
        """No partition of the group is stalled, as far as is known."""
        return not self._progress[group].stalled

    def is_stopped(self, group: str) -> bool:
        """Every partition of the group that has lag is stalled."""
        return self._progress[group].is_stopped

    def _follow(self, stop: threading.Event) -> None:
        # Nobody starts with a stall: the reader is opened when there may be one.
        if stop.wait(self._look_s):
            return
        reader = self._open_reader()
        try:
            while not stop.is_set():
                self._look(reader)
                stop.wait(self._look_s)
        finally:
            reader.close()

    def _look(self, reader: LagReader) -> None:
        lags = reader.lags(self._groups)
        for group, progress in self._progress.items():
            former = progress.stalled
            progress.look(lags.get(group, {}), self._clock.monotonic_s())
            self._metrics.stalled.labels(group).set(len(progress.stalled))
            for place in sorted(progress.stalled - former):
                extra = {"group": group, "topic": place.topic, "partition": place.partition}
                log.error("a feed does not advance", extra=extra)


@contextmanager
def run_watch(watch: ProgressWatch) -> Iterator[ProgressWatch]:
    """While inside, the watch looks."""
    watch.start()
    try:
        yield watch
    finally:
        watch.close()
