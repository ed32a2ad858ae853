"""The offsets of every service, its lag, and when commits have to be read again. Pure.

End offsets are read often, committed ones only where they may have moved.
A new record needs no commits to be seen: its end is above the known commit.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from itertools import zip_longest

from functions.ports.kafka import Numbers

ByTopic = Mapping[str, Numbers]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceOffsets:
    """Offsets of one service; `lag` and `arrived` are kept beside what they come from."""

    topics: tuple[str, ...]
    """`Topics.of_service`."""
    ends: ByTopic = field(default_factory=dict)
    commits: ByTopic = field(default_factory=dict)
    starts: ByTopic = field(default_factory=dict)
    read_s: float | None = None
    """When commits were read; None: never, so lag is not known."""
    has_shrunk: bool = False
    """An end went back: another log under the same name."""
    lag: int = 0
    """Records that are not committed, over all topics; a partition without a commit counts from its
    first record, as the workers read it.
    """
    arrived: int = 0
    """Records ever appended."""

    def with_ends(self, read: ByTopic) -> "ServiceOffsets":
        """With end offsets read; what could not be read keeps its last value."""
        ends = {topic: _merge(self.ends.get(topic), read.get(topic)) for topic in self.topics}
        if ends == self.ends:
            return self
        has_shrunk = any(_is_less(ends[topic], self.ends.get(topic, ())) for topic in self.topics)
        return _count(replace(self, ends=ends, has_shrunk=self.has_shrunk or has_shrunk))

    def with_commits(self, commits: ByTopic, now_s: float) -> "ServiceOffsets":
        """With committed offsets read at monotonic time `now_s`."""
        return _count(replace(self, commits=commits, read_s=now_s, has_shrunk=False))

    def with_starts(self, starts: ByTopic) -> "ServiceOffsets":
        """With first offsets. What retention has deleted is no lag."""
        mine = {topic: numbers for topic, numbers in starts.items() if topic in self.topics}
        return _count(replace(self, starts={**self.starts, **mine}))

    def is_due(self, now_s: float, *, busy_s: float, quiet_s: float) -> bool:
        """Whether to read commits again: after `busy_s` if there is lag, else `quiet_s`."""
        if self.read_s is None or self.has_shrunk:
            return True
        return now_s - self.read_s >= (busy_s if self.lag else quiet_s)


def _count(offsets: ServiceOffsets) -> ServiceOffsets:
    ends, topics = offsets.ends, offsets.topics
    lag = sum(
        _compute_lag(end, commit, start)
        for topic in topics
        for end, commit, start in zip_longest(
            ends.get(topic, ()), offsets.commits.get(topic, ()), offsets.starts.get(topic, ())
        )
    )
    arrived = sum(end or 0 for topic in topics for end in ends.get(topic, ()))
    return replace(offsets, lag=lag, arrived=arrived)


def _compute_lag(end: int | None, commit: int | None, start: int | None) -> int:
    return 0 if end is None else max(0, end - max(commit or 0, start or 0))


def _merge(known: Numbers | None, fresh: Numbers | None) -> Numbers:
    if fresh is None or known is None or None not in fresh:
        return known or () if fresh is None else fresh
    return tuple(
        old if new is None else new
        for old, new in zip_longest(known[: len(fresh)], fresh, fillvalue=None)
    )


def _is_less(now: Numbers, before: Numbers) -> bool:
    return any(
        new is not None and old is not None and new < old
        for new, old in zip(now, before, strict=False)
    )


def is_whole(ends: ByTopic, topics: tuple[str, ...]) -> bool:
    """Whether a reading has every partition of every topic."""
    return all(topic in ends and None not in ends[topic] for topic in topics)
