"""Which records are given up. Pure but for its counts.

A record that fails while others succeed is at fault. It is given up after so many failures and so
long a time. While nothing succeeds, the router or the broker is down, and everything waits.
"""

from collections.abc import Collection
from dataclasses import dataclass

from events.event import PartitionId

Place = tuple[PartitionId, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """A record is given up once it has failed `tries` times, others got through before each, and `bound_s` have passed
    since its first failure.
    """

    tries: int = 10
    bound_s: float = 120.0


@dataclass(slots=True)
class _Trouble:
    first_s: float
    successes: int
    """Of other records, as of the last failure."""
    failures: int = 0
    telling: int = 0
    """Failures that others had got through before."""


class Troubles:
    """The records that have failed and have not ended. Owned by one thread."""

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._successes = 0
        self._troubles: dict[Place, _Trouble] = {}

    def succeeded(self, place: Place) -> None:
        """A record got through."""
        self._successes += 1
        self.ended(place)

    def ended(self, place: Place) -> None:
        """A record needs no further look, whether it got through or was given up."""
        self._troubles.pop(place, None)

    def failed(self, place: Place, now_s: float) -> int:
        """A record has failed; returns how often. `now_s` is monotonic."""
        trouble = self._troubles.setdefault(place, _Trouble(now_s, self._successes))
        trouble.failures += 1
        if self._successes > trouble.successes:
            trouble.telling += 1
            trouble.successes = self._successes
        return trouble.failures

    def is_hopeless(self, place: Place, now_s: float) -> bool:
        """Whether a record is to be given up."""
        trouble = self._troubles.get(place)
        return (
            trouble is not None
            and trouble.telling >= self._patience.tries
            and now_s - trouble.first_s >= self._patience.bound_s
        )

    def lost(self, partitions: Collection[PartitionId]) -> None:
        """Forgets the records of partitions that were taken away."""
        self._troubles = {k: found for k, found in self._troubles.items() if k[0] not in partitions}
