"""The offset ledger: finished records of a partition, the offset to commit, the next attempt.

Records finish out of order, but a group commits one offset for each partition.
The ledger commits the lowest unfinished offset (the watermark). It writes the rest into the commit
metadata, as Confluent's parallel-consumer does:

- offsets finished beyond the watermark, which do not run again after a rebalance;
- attempts that have begun, which continue at n + 1 after a crash;
- how many of them only moved: a rebalance took their partition during the call, which is no
  failure.

No I/O. `PartitionLedger` is one partition, `OffsetLedger` all of one member. Both belong to the
thread that owns the consumer.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from events.event import PartitionId
from functions.ports.kafka import Commit

METADATA_BYTES: Final = 4096
"""What a broker accepts as commit metadata (`offset.metadata.max.bytes`)."""
MAX_SPAN: Final = 512
"""Largest span: the attempts of that many offsets always fit into the metadata."""
_VERSION: Final = "2"
_READ: Final = frozenset({"1", _VERSION})
"""The first version knew no moves."""
_FRAME: Final = len(f"{_VERSION}||")
_MOST_FINISHED: Final = 65_536
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"


Tried = Mapping[int, tuple[int, int]]
"""Attempts by offset, and of them those that moved."""


@dataclass(frozen=True, slots=True)
class CommitNote:
    """What commit metadata says about offsets at and above the committed one."""

    attempts: Mapping[int, int] = field(default_factory=dict)
    finished: frozenset[int] = frozenset()
    moved: Mapping[int, int] = field(default_factory=dict)
    """Of the attempts, those that ran when their partition was taken away."""


class PartitionLedger:
    """One partition within one assignment.

    Args:
        commit: the group's last commit of the partition; None where there is none.
        span: how far offsets may run ahead of the watermark before `is_full` asks for a pause.
    """

    def __init__(self, commit: Commit | None = None, *, span: int = MAX_SPAN) -> None:
        if not 1 <= span <= MAX_SPAN:
            raise ValueError(f"span must be 1 to {MAX_SPAN}")
        kept = CommitNote() if commit is None else decode(commit)
        self._span = span
        self._next: int | None = None if commit is None else commit.offset
        self._unfinished: dict[int, None] = {}
        self._finished: set[int] = set(kept.finished)
        self._attempts: dict[int, int] = dict(kept.attempts)
        self._moved: dict[int, int] = dict(kept.moved)
        self._running: set[int] = set()

    @property
    def watermark(self) -> int | None:
        """The next offset to commit: everything below it is finished. None: nothing is known yet."""
        return next(iter(self._unfinished), self._next)

    @property
    def unfinished(self) -> int:
        """Records fetched and not finished."""
        return len(self._unfinished)

    @property
    def is_full(self) -> bool:
        """True when offsets span at least the cap: pause the partition until the watermark moves."""
        low = self.watermark
        return low is not None and self._next is not None and self._next - low >= self._span

    def note_fetched(self, offset: int) -> bool:
        """Notes a record read from the log; offsets come in ascending order, gaps are normal.

        Returns False where there is nothing to do: finished before a rebalance, or read before.
        """
        if self._next is not None and offset < self._next:
            return False
        self._next = offset + 1
        if offset in self._finished:
            self._trim()
            return False
        self._unfinished[offset] = None
        return True

    def attempts(self, offset: int) -> int:
        """Attempts begun so far, those of earlier processes included."""
        return self._attempts.get(offset, 0)

    def moved(self, offset: int) -> int:
        """Of these attempts, those that ended because their partition moved."""
        return self._moved.get(offset, 0)

    def start_attempt(self, offset: int) -> int:
        """Counts one more attempt and returns its number (1-based). It is durable only once `commit()` is."""
        number = self._attempts.get(offset, 0) + 1
        self._attempts[offset] = number
        self._running.add(offset)
        return number

    def end_attempt(self, offset: int) -> None:
        """Notes that the attempt under way failed; the record may be tried again."""
        self._running.discard(offset)

    def withdraw_attempt(self, offset: int) -> None:
        """Takes back an attempt that was none: its commit was refused, or the model was not called after it."""
        self._running.discard(offset)
        number = self._attempts.get(offset, 0) - 1
        if number > 0:
            self._attempts[offset] = number
        else:
            self._attempts.pop(offset, None)

    def finished(self, offset: int) -> None:
        """Notes that the record's final outcome is in the log. Unknown and repeated offsets change nothing."""
        if offset not in self._unfinished:
            return
        del self._unfinished[offset]
        self._attempts.pop(offset, None)
        self._moved.pop(offset, None)
        self._running.discard(offset)
        self._finished.add(offset)
        self._trim()

    def commit(self) -> Commit | None:
        """What to commit now; None where nothing is known of the partition."""
        low = self.watermark
        if low is None:
            return None
        return Commit(low, encode(low, self._attempts, self._finished, self._moved))

    def parting(self) -> Commit | None:
        """What to commit when the partition is taken away now: what runs has moved. None where nothing runs."""
        low = self.watermark
        if low is None or not self._running:
            return None
        moved = {**self._moved, **{o: self._moved.get(o, 0) + 1 for o in self._running}}
        return Commit(low, encode(low, self._attempts, self._finished, moved))

    def _trim(self) -> None:
        low = self.watermark
        if low is None:
            return
        if self._finished:
            self._finished = {offset for offset in self._finished if offset >= low}
        if self._attempts and not self._unfinished:
            self._attempts = {o: n for o, n in self._attempts.items() if o >= low}
            self._moved = {o: n for o, n in self._moved.items() if o >= low}


class OffsetLedger:
    """All partitions assigned to one group member. Calls about partitions that were lost change nothing."""

    def __init__(self, *, span: int = MAX_SPAN) -> None:
        self._span = span
        self._partitions: dict[PartitionId, PartitionLedger] = {}
        self._committed: dict[PartitionId, Commit] = {}

    def gained(
        self, partitions: Iterable[PartitionId], commits: Mapping[PartitionId, Commit]
    ) -> None:
        """Starts a ledger for each newly assigned partition from its last commit."""
        for partition in partitions:
            self._partitions[partition] = PartitionLedger(commits.get(partition), span=self._span)
            self._committed.pop(partition, None)
            if partition in commits:
                self._committed[partition] = commits[partition]

    def lost(self, partitions: Iterable[PartitionId]) -> None:
        """Forgets partitions that were revoked or lost."""
        for partition in partitions:
            self._partitions.pop(partition, None)
            self._committed.pop(partition, None)

    def owns(self, partition: PartitionId) -> bool:
        return partition in self._partitions

    def note_fetched(self, partition: PartitionId, offset: int) -> bool:
        """True where the record must be worked on."""
        return self._of(partition).note_fetched(offset)

    def attempts(self, partition: PartitionId, offset: int) -> int:
        ledger = self._partitions.get(partition)
        return 0 if ledger is None else ledger.attempts(offset)

    def moved(self, partition: PartitionId, offset: int) -> int:
        ledger = self._partitions.get(partition)
        return 0 if ledger is None else ledger.moved(offset)

    def start_attempt(self, partition: PartitionId, offset: int) -> int:
        return self._of(partition).start_attempt(offset)

    def end_attempt(self, partition: PartitionId, offset: int) -> None:
        if partition in self._partitions:
            self._partitions[partition].end_attempt(offset)

    def withdraw_attempt(self, partition: PartitionId, offset: int) -> None:
        if partition in self._partitions:
            self._partitions[partition].withdraw_attempt(offset)

    def finished(self, partition: PartitionId, offset: int) -> None:
        if partition in self._partitions:
            self._partitions[partition].finished(offset)

    def pending(self) -> dict[PartitionId, Commit]:
        """Commits that differ from what is committed; pass them to the consumer, then to `committed`."""
        commits: dict[PartitionId, Commit] = {}
        for partition, ledger in self._partitions.items():
            commit = ledger.commit()
            if commit is not None and commit != self._committed.get(partition):
                commits[partition] = commit
        return commits

    def parting(self) -> dict[PartitionId, Commit]:
        """What to commit of partitions on which something runs, should they be taken away now."""
        commits = {partition: ledger.parting() for partition, ledger in self._partitions.items()}
        return {partition: commit for partition, commit in commits.items() if commit is not None}

    def committed(self, commits: Mapping[PartitionId, Commit]) -> None:
        """Notes commits that the group accepted."""
        for partition, commit in commits.items():
            if partition in self._partitions:
                self._committed[partition] = commit

    def full(self) -> frozenset[PartitionId]:
        """Partitions to pause: their offsets span the cap."""
        return frozenset(p for p, ledger in self._partitions.items() if ledger.is_full)

    @property
    def unfinished(self) -> int:
        """Records fetched and not finished, over all partitions."""
        return sum(ledger.unfinished for ledger in self._partitions.values())

    def _of(self, partition: PartitionId) -> PartitionLedger:
        # A record of a partition whose assignment was not announced: start without a commit.
        return self._partitions.setdefault(partition, PartitionLedger(span=self._span))


def encode(
    base: int,
    attempts: Mapping[int, int],
    finished: Iterable[int],
    moved: Mapping[int, int] = MappingProxyType({}),
    *,
    limit: int = METADATA_BYTES,
) -> str:
    """Commit metadata: `2|attempts|finished`, base-36 gaps from the committed offset, ASCII only.

    Attempts are `gap[.n[.moved]]` (n = 1 and moved = 0 left out), finished offsets are runs `gap[-length]`. Where
    everything does not fit
    into `limit` bytes the finished runs go first, from the highest offset down (such records are run again, which
    readers recognise); attempts go only when they alone do not fit, the most tried stay.
    """
    counted = {
        offset: (n, min(n, moved.get(offset, 0)))
        for offset, n in attempts.items()
        if offset >= base and n > 0
    }
    above = sorted(offset for offset in finished if offset >= base)
    if not counted and not above:
        return ""
    tried = _attempt_tokens(base, counted)
    if len(tried) + _FRAME > limit:
        tried = _attempt_tokens(base, _most_tried(base, counted, limit - _FRAME))
    room = limit - len(tried) - _FRAME
    return f"{_VERSION}|{tried}|{_run_tokens(base, above, room)}"


def decode(commit: Commit) -> CommitNote:
    """Reads commit metadata. Empty, foreign or damaged metadata says nothing: an empty `CommitNote`."""
    try:
        version, tried, runs = commit.metadata.split("|")
        if version not in _READ:
            return CommitNote()
        attempts, moved = _read_attempts(commit.offset, tried)
        return CommitNote(attempts, _read_runs(commit.offset, runs), moved)
    except ValueError:
        return CommitNote()


def _most_tried(base: int, attempts: Tried, room: int) -> dict[int, tuple[int, int]]:
    ordered = sorted(attempts.items(), key=lambda entry: (entry[1][1] - entry[1][0], entry[0]))
    low, high = 0, len(ordered)
    while low < high:
        middle = (low + high + 1) // 2
        fits = len(_attempt_tokens(base, dict(ordered[:middle]))) <= room
        low, high = (middle, high) if fits else (low, middle - 1)
    return dict(ordered[:low])


def _attempt_tokens(base: int, attempts: Tried) -> str:
    tokens: list[str] = []
    last = base
    for offset in sorted(attempts):
        number, moved = attempts[offset]
        told = "" if number == 1 and not moved else f".{_text(number)}"
        tokens.append(_text(offset - last) + told + (f".{_text(moved)}" if moved else ""))
        last = offset
    return ",".join(tokens)


def _run_tokens(base: int, offsets: list[int], room: int) -> str:
    tokens: list[str] = []
    used = 0
    last = base
    index = 0
    while index < len(offsets):
        end = index
        while end + 1 < len(offsets) and offsets[end + 1] == offsets[end] + 1:
            end += 1
        length = end - index + 1
        token = _text(offsets[index] - last) + ("" if length == 1 else f"-{_text(length)}")
        used += len(token) + (1 if tokens else 0)
        if used > room:
            break
        tokens.append(token)
        last = offsets[end]
        index = end + 1
    return ",".join(tokens)


def _read_attempts(base: int, text: str) -> tuple[dict[int, int], dict[int, int]]:
    """Attempts and, of them, moves."""
    attempts: dict[int, int] = {}
    moved: dict[int, int] = {}
    offset = base
    for token in filter(None, text.split(",")):
        gap, _, rest = token.partition(".")
        number, _, moves = rest.partition(".")
        offset += _number(gap)
        attempts[offset] = _number(number) if number else 1
        if moves:
            moved[offset] = min(_number(moves), attempts[offset])
    return attempts, moved


def _read_runs(base: int, text: str) -> frozenset[int]:
    moved: set[int] = set()
    last = base
    for token in filter(None, text.split(",")):
        gap, _, length = token.partition("-")
        start, count = last + _number(gap), _number(length) if length else 1
        if len(moved) + count > _MOST_FINISHED:
            raise ValueError("more finished offsets than any ledger writes")
        moved.update(range(start, start + count))
        last = start + count - 1
    return frozenset(moved)


def _text(number: int) -> str:
    if number == 0:
        return "0"
    digits = ""
    while number:
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
    return digits


def _number(text: str) -> int:
    if not text or len(text) > 12 or not set(text) <= set(_DIGITS):
        raise ValueError("not a base-36 number")
    return int(text, 36)
