"""`GroupConsumer` with librdkafka: a member of a group that commits offsets with metadata."""

import logging
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, TopicPartition

from events.event import PartitionId
from functions.kafka.assigned_partitions import AssignedPartitions
from functions.kafka.librdkafka import close_consumer, open_client
from functions.kafka.member_note import MemberNote
from functions.kafka.record_reader import RecordBuffer, await_topics, open_reader, reader_config
from functions.ports.kafka import Commit, Parting, Polled
from functions.runtime.settings import BrokerSettings

log = logging.getLogger(__name__)

EMBEDDED_SESSION_S: Final = 3.0
"""The embedded broker ends each round of a rebalance one second before the session timeout, never sooner."""
ASSIGNOR: Final = "cooperative-sticky"
COMMIT_S: Final = 5.0
"""A commit that is not answered by then counts as refused."""
COMMITTED_S: Final = 5.0
_COMMIT_POLL_S: Final = 0.05
"""Below 0.2 s: a longer poll does not end when a callback raises (confluent-kafka 2.16.1)."""
_NOTE_S: Final = 0.1
"""Between two questions for the member's id: each waits for librdkafka's own thread."""
_FROM_START: Final = -2
"""librdkafka's logical offset of the beginning."""


class _Answered(Exception):
    """Raised by the commit callback: the only way to end the poll that waits for it."""

    def __init__(self, *, is_accepted: bool) -> None:
        super().__init__()
        self.is_accepted = is_accepted


def group_config(settings: BrokerSettings, group: str, *, assignor: str) -> dict[str, Any]:
    """Librdkafka's options of a group member. Times are milliseconds."""
    session_s = settings.session_timeout_s
    if settings.kind == "embedded":
        session_s = min(session_s, EMBEDDED_SESSION_S)
    # A lost heartbeat must leave time for others before the session ends.
    heartbeat_s = min(settings.heartbeat_s, session_s / 4)
    return {
        "group.id": group,
        "session.timeout.ms": int(1000 * session_s),
        "heartbeat.interval.ms": max(1, int(1000 * heartbeat_s)),
        # Also how long a rebalance waits for a member that lives and does not poll.
        "max.poll.interval.ms": int(1000 * max(settings.max_poll_interval_s, session_s)),
        "partition.assignment.strategy": assignor,
    }


class KafkaGroupConsumer:
    """A member of a group; joins at its first `poll`.

    A partition that is gained is paused until its last commit is known: no record of it can be returned before.

    Args:
        settings: limits, and which kind of broker it is.
        config: librdkafka's, of this client.
        note: where this process leaves its member id, for the one that starts after it was killed.
        is_awaited: as in `RecordLog.group`.
        assignor: `cooperative-sticky`, or an eager one (`range`).
    """

    def __init__(
        self,
        settings: BrokerSettings,
        config: dict[str, Any],
        *,
        group: str,
        topics: tuple[str, ...],
        note: MemberNote | None = None,
        is_awaited: bool = False,
        assignor: str = ASSIGNOR,
    ) -> None:
        if note is not None:
            note.remove_former()
        self._note = note
        self._note_s = 0.0
        self._is_noted = False
        self._is_eager = assignor != ASSIGNOR
        self._awaited: frozenset[tuple[PartitionId, Commit]] | None = None
        """The commit that is waited for, until it is answered."""
        self._consumer: Any = open_client(
            Consumer,
            config
            | reader_config(settings)
            | group_config(settings, group, assignor=assignor)
            | {"on_commit": self._on_commit},
        )
        self._partitions = AssignedPartitions(self._consumer)
        self._gathered = RecordBuffer(self._consumer, self._partitions, config["error_cb"])
        self._parting: Parting = lambda _: {}
        self._unannounced: set[PartitionId] = set()
        self._gained: set[PartitionId] = set()
        self._lost: set[PartitionId] = set()
        self._fresh: dict[PartitionId, Commit | None] = {}
        """Commits read when their partitions were gained, and neither asked for nor followed by another since."""
        # Metadata first, joining after: a leader that joins before it knows a topic's partitions assigns none of them.
        await_topics(self._consumer, topics)
        self._reading = open_reader(
            settings, topics, self._gathered, self._partitions, is_awaited=is_awaited
        )
        self._consumer.subscribe(
            list(topics),
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._was_lost,
        )

    def poll(self, timeout_s: float) -> Polled:
        self._reading.read(0.0 if self._gained or self._lost else timeout_s)
        if self._unannounced:
            self._announce()
        self._keep_note()
        records = self._gathered.take()
        gained, lost = frozenset(self._gained), frozenset(self._lost)
        self._gained -= gained
        self._lost -= lost
        return Polled(records=records, gained=gained, lost=lost)

    def commit(self, commits: Mapping[PartitionId, Commit]) -> bool:
        if not commits:
            return True
        self._forget_fresh(commits)
        self._awaited = frozenset(commits.items())
        try:
            self._consumer.commit(offsets=_offsets(commits), asynchronous=True)
            return self._await_answer()
        except KafkaException as error:
            log.info("commit refused", extra={"reason": error.args[0].name()})
            return False
        finally:
            self._awaited = None

    def _await_answer(self) -> bool:
        """Polls until the commit is answered; records that come meanwhile are returned by the next poll."""
        deadline = time.monotonic() + COMMIT_S
        while time.monotonic() <= deadline:
            if self._gathered.is_full:
                self._partitions.rest()
                self._reading.look_again()
            try:
                self._gathered.poll(_COMMIT_POLL_S)
            except _Answered as answer:
                return answer.is_accepted
        log.info("commit not answered")
        return False

    def _on_commit(self, error: Any, offsets: list[TopicPartition]) -> None:
        """Of every commit, in a poll of the owner."""
        failures = [one.error for one in offsets if one.error is not None]
        failure = error if error is not None else next(iter(failures), None)
        if failure is not None:
            log.info("commit refused", extra={"reason": failure.name()})
        commits = frozenset((_place(one), _commit(one)) for one in offsets)
        if commits == self._awaited:
            raise _Answered(is_accepted=failure is None)

    def committed(self, partitions: Iterable[PartitionId]) -> Mapping[PartitionId, Commit]:
        asked = set(partitions)
        known = {one: self._fresh.pop(one) for one in asked & self._fresh.keys()}
        commits = self._ask_committed(list(asked - known.keys()))
        return commits | {one: commit for one, commit in known.items() if commit is not None}

    def _ask_committed(self, partitions: list[PartitionId]) -> dict[PartitionId, Commit]:
        """Raises `KafkaException` where the coordinator does not answer."""
        if not partitions:
            return {}
        places = self._consumer.committed(
            [TopicPartition(*one) for one in partitions], timeout=COMMITTED_S
        )
        for one in places:
            if one.error is not None:
                raise KafkaException(one.error)
        return {_place(one): _commit(one) for one in places if one.offset >= 0}

    def part_with(self, parting: Parting) -> None:
        # An eager rebalance takes everything away, what stays as well: what runs there would count as moved.
        if not self._is_eager:
            self._parting = parting

    def pause(self, partitions: Iterable[PartitionId]) -> None:
        self._partitions.pause(partitions)

    def resume(self, partitions: Iterable[PartitionId]) -> None:
        self._partitions.resume(partitions)
        self._reading.look_again()

    def assignment(self) -> frozenset[PartitionId]:
        return frozenset(self._partitions.positions)

    def close(self) -> None:
        # Who leaves with work under way has failed at it, or its model has: that counts.
        self._parting = lambda _: {}
        self._reading.close()
        close_consumer(self._consumer)
        if self._note is not None:
            self._note.clear()

    # --- callbacks of a rebalance: in a poll of the owner ---------------------------------------

    def _on_assign(self, consumer: Any, offsets: list[TopicPartition]) -> None:
        if self._is_eager:
            consumer.assign(offsets)
        else:
            consumer.incremental_assign(offsets)
        if offsets:
            consumer.pause(offsets)
        self._unannounced |= {_place(one) for one in offsets}

    def _announce(self) -> None:
        """Tells of gained partitions once their commits are known; until then none of their records comes."""
        asked = list(self._unannounced)
        try:
            commits = self._ask_committed(asked)
        except KafkaException as error:
            log.warning("commits not read yet", extra={"reason": error.args[0].name()})
            return
        self._fresh |= {one: commits.get(one) for one in asked}
        self._partitions.add(
            {one: commits[one].offset if one in commits else _FROM_START for one in asked}
        )
        self._reading.look_again()
        self._gained |= self._unannounced
        self._unannounced.clear()

    def _on_revoke(self, consumer: Any, offsets: list[TopicPartition]) -> None:
        taken = {_place(one) for one in offsets}
        # What was not announced cannot run here, nor can what was lost before and came back.
        commits = self._parting(taken - self._unannounced - self._lost)
        if commits:
            # Not waited for: it goes before the next join on the same connection.
            try:
                consumer.commit(offsets=_offsets(commits), asynchronous=True)
            except KafkaException as error:
                log.info("parting commit refused", extra={"reason": error.args[0].name()})
        self._forget(taken)

    def _was_lost(self, _: Any, offsets: list[TopicPartition]) -> None:
        self._is_noted = False  # whoever lost its share is a new member when it joins again
        self._forget({_place(one) for one in offsets})

    def _forget(self, taken: set[PartitionId]) -> None:
        self._gathered.drop(taken)
        self._partitions.remove(taken)
        self._lost |= taken - self._unannounced - self._gained
        self._unannounced -= taken
        self._gained -= taken
        self._forget_fresh(taken)

    def _forget_fresh(self, partitions: Iterable[PartitionId]) -> None:
        for one in partitions:
            self._fresh.pop(one, None)

    def _keep_note(self) -> None:
        """Notes the member's id: while it joins, too (killed then, it would hold up the group for a session), and when
        it has its first share, for good.
        """
        now_s = time.monotonic()
        has_share = bool(self._partitions.positions)
        if self._note is None or self._is_noted or not (has_share or now_s >= self._note_s):
            return
        self._note_s = now_s + _NOTE_S
        member = self._consumer.memberid()
        if member:
            self._note.write(member)
            self._is_noted = has_share


def _place(partition: TopicPartition) -> PartitionId:
    return PartitionId(partition.topic, partition.partition)


def _commit(partition: TopicPartition) -> Commit:
    return Commit(partition.offset, partition.metadata or "")


def _offsets(commits: Mapping[PartitionId, Commit]) -> list[TopicPartition]:
    return [
        TopicPartition(place.topic, place.partition, commit.offset, metadata=commit.metadata)
        for place, commit in commits.items()
    ]
