"""Which records are given up. Pure but for its counts.

A record that fails while others succeed is at fault. It is given up after so many failures and so
long a time. While nothing succeeds, the router or the broker is down, and everything waits.
"""

from collections.abc import Collection
from dataclasses import dataclass

from events.event import PartitionId

Place = tuple[PartitionId, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUpRule:
    """A record is given up once it has failed `tries` times, others got through before each, and `bound_s` have passed
    since its first failure.
    """

    tries: int = 10
    bound_s: float = 120.0


@dataclass(slots=True)
class _Failing:
    first_s: float
    successes: int
    """Of other records, as of the last failure."""
    failures: int = 0
    telling: int = 0
    """Failures that others had got through before."""


class FailingRecords:
    """The records that have failed and have not ended. Owned by one thread."""

    def __init__(self, rule: GiveUpRule) -> None:
        self._rule = rule
        self._successes = 0
        self._failing: dict[Place, _Failing] = {}

    def succeeded(self, place: Place) -> None:
        """A record got through."""
        self._successes += 1
        self.ended(place)

    def ended(self, place: Place) -> None:
        """A record needs no further look, whether it got through or was given up."""
        self._failing.pop(place, None)

    def failed(self, place: Place, now_s: float) -> int:
        """A record has failed; returns how often. `now_s` is monotonic."""
        failing = self._failing.setdefault(place, _Failing(now_s, self._successes))
        failing.failures += 1
        if self._successes > failing.successes:
            failing.telling += 1
            failing.successes = self._successes
        return failing.failures

    def is_hopeless(self, place: Place, now_s: float) -> bool:
        """Whether a record is to be given up."""
        failing = self._failing.get(place)
        return (
            failing is not None
            and failing.telling >= self._rule.tries
            and now_s - failing.first_s >= self._rule.bound_s
        )

    def lost(self, partitions: Collection[PartitionId]) -> None:
        """Forgets the records of partitions that were taken away."""
        self._failing = {k: one for k, one in self._failing.items() if k[0] not in partitions}
