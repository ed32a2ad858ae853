"""What every process relies on of a cluster, said once and run against memory, the embedded broker and Apache Kafka."""

import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer

from events.event import PartitionId, Record
from functions.kafka.record_log import KafkaLog
from functions.ports.kafka import Commit, GroupConsumer, Polled, RecordLog, RecordTail, TopicSpec
from functions.runtime.errors import AppendFailed
from functions.testing.memory_broker import MemoryLog
from tests.contract import raw_records

PATIENCE_S = 60.0
"""Not a measurement: on a busy machine the embedded broker ends a rebalance after tens of seconds."""

pytestmark = pytest.mark.timeout(4 * PATIENCE_S)


@pytest.fixture
def topic(cluster: RecordLog) -> str:
    name = f"contract.{uuid.uuid4().hex[:8]}"
    cluster.admin(client="test").ensure_topics([TopicSpec(name=name, partitions=4)], PATIENCE_S)
    return name


def record(topic: str, value: bytes, **fields: object) -> Record:
    return Record(topic=topic, value=value, **fields)  # type: ignore[arg-type]


def append(cluster: RecordLog, *records: Record) -> list[PartitionId]:
    appender = cluster.appender(client="test")
    futures = [appender.append(one) for one in records]
    places = [future.result(PATIENCE_S) for future in futures]
    appender.close(2.0)
    return places


def read_until(consumer: GroupConsumer, enough: Callable[[list[Polled]], bool]) -> list[Polled]:
    polls: list[Polled] = []
    deadline = time.monotonic() + PATIENCE_S
    while not enough(polls):
        assert time.monotonic() < deadline, f"not seen in time: {polls}"
        polls.append(consumer.poll(0.1))
    return polls


def values(polls: list[Polled]) -> list[bytes | None]:
    return [one.value for poll in polls for one in poll.records]


def held(polls: list[Polled]) -> int:
    """How many partitions a member holds after these polls."""
    mine: set[PartitionId] = set()
    for poll in polls:
        mine = (mine - poll.lost) | poll.gained
    return len(mine)


def tail_until(tail: RecordTail, count: int) -> list[Record]:
    found: list[Record] = []
    deadline = time.monotonic() + PATIENCE_S
    while len(found) < count:
        assert time.monotonic() < deadline, f"not seen in time: {found}"
        found.extend(tail.poll(0.1))
    return found


@pytest.fixture
def describing(cluster: RecordLog) -> RecordLog:
    """A cluster that tells who is in a group."""
    if type(cluster).__name__ == "EmbeddedLog":
        pytest.skip("the embedded broker does not tell who is in a group")
    return cluster


@pytest.fixture
def consumer(cluster: RecordLog, topic: str) -> Iterator[GroupConsumer]:
    found = cluster.group(group=f"g-{topic}", topics=(topic,), client="test")
    yield found
    found.close()


def test_what_is_appended_is_read_with_key_headers_and_order(
    cluster: RecordLog, topic: str, consumer: GroupConsumer
) -> None:
    headers = (("ce_id", b"1"), ("content-type", b"application/json"))
    append(cluster, *(record(topic, b"%d" % n, key=b"k", headers=headers) for n in range(20)))
    polls = read_until(consumer, lambda seen: len(values(seen)) >= 20)
    records = [one for poll in polls for one in poll.records]
    assert [b"%d" % n for n in range(20)] == [one.value for one in records]
    assert {(b"k", headers)} == {(one.key, one.headers) for one in records}
    assert 1 == len({one.partition for one in records})


def test_an_explicit_partition_is_honoured(cluster: RecordLog, topic: str) -> None:
    assert [PartitionId(topic, 3)] == append(cluster, record(topic, b"x", partition=3))


def test_gained_partitions_are_told_no_later_than_their_records(
    cluster: RecordLog, topic: str, consumer: GroupConsumer
) -> None:
    append(cluster, record(topic, b"x", partition=2))
    gained: set[PartitionId] = set()
    for poll in read_until(consumer, lambda seen: b"x" in values(seen)):
        gained |= poll.gained
        assert {one.partition_id for one in poll.records} <= gained


def test_a_commit_with_metadata_outlives_its_member(cluster: RecordLog, topic: str) -> None:
    append(cluster, *(record(topic, b"%d" % n, partition=0) for n in range(3)))
    first = cluster.group(group=f"g-{topic}", topics=(topic,), client="one")
    read_until(first, lambda seen: len(values(seen)) >= 3)
    place = PartitionId(topic, 0)
    assert first.commit({place: Commit(2, '{"2":1}')})
    first.close()
    second = cluster.group(group=f"g-{topic}", topics=(topic,), client="two")
    polls = read_until(second, lambda seen: len(values(seen)) >= 1)
    assert [b"2"] == values(polls)
    assert Commit(2, '{"2":1}') == second.committed([place])[place]
    second.close()


def test_a_partition_without_a_commit_has_none(topic: str, consumer: GroupConsumer) -> None:
    read_until(consumer, lambda seen: any(poll.gained for poll in seen))
    assert {} == consumer.committed([PartitionId(topic, 1)])


def test_paused_partitions_give_nothing_and_lose_nothing(
    cluster: RecordLog, topic: str, consumer: GroupConsumer
) -> None:
    read_until(consumer, lambda seen: len(frozenset().union(*(p.gained for p in seen))) == 4)
    consumer.pause([PartitionId(topic, 0)])
    append(cluster, record(topic, b"paused", partition=0), record(topic, b"free", partition=1))
    assert [b"free"] == values(read_until(consumer, lambda seen: len(values(seen)) >= 1))
    assert [] == values([consumer.poll(0.2)])
    consumer.resume([PartitionId(topic, 0)])
    assert [b"paused"] == values(read_until(consumer, lambda seen: len(values(seen)) >= 1))


def test_two_members_share_the_partitions_and_the_second_takes_over(
    cluster: RecordLog, topic: str
) -> None:
    group = f"g-{topic}"
    one = cluster.group(group=group, topics=(topic,), client="one")
    read_until(one, lambda seen: held(seen) == 4)
    two = cluster.group(group=group, topics=(topic,), client="two")

    polls: list[Polled] = []
    is_enough = threading.Event()

    def keep_polling() -> None:
        # On a thread of its own, as a second process would: a rebalance needs both members' answers at once.
        while not is_enough.is_set():
            polls.append(two.poll(0.05))

    def is_shared(seen: list[Polled]) -> bool:
        mine, theirs = one.assignment(), two.assignment()
        is_told = any(poll.lost for poll in seen) and held(polls) == 2
        return is_told and len(mine) == len(theirs) == 2 and mine.isdisjoint(theirs)

    thread = threading.Thread(target=keep_polling, daemon=True)
    thread.start()
    try:
        read_until(one, is_shared)
    finally:
        is_enough.set()
        thread.join()
    one.close()
    read_until(two, lambda seen: len(two.assignment()) == 4)
    two.close()


def test_what_a_living_member_says_of_a_partition_it_gives_away_is_there_for_the_next(
    cluster: RecordLog, topic: str
) -> None:
    group = f"g-{topic}"
    one = cluster.group(group=group, topics=(topic,), client="one")
    one.part_with(lambda taken: {partition: Commit(0, "moved") for partition in taken})
    read_until(one, lambda seen: held(seen) == 4)
    assert one.commit({partition: Commit(0, "mine") for partition in one.assignment()})
    two = cluster.group(group=group, topics=(topic,), client="two")
    is_enough = threading.Event()

    def keep_polling() -> None:
        while not is_enough.is_set():
            one.poll(0.05)

    thread = threading.Thread(target=keep_polling)
    thread.start()
    try:
        read_until(two, lambda seen: held(seen) == 2)
        commits = two.committed(two.assignment())
    finally:
        is_enough.set()
        thread.join()
    assert [commit.metadata for commit in commits.values()] == ["moved", "moved"]
    kept = one.committed(one.assignment())
    assert [commit.metadata for commit in kept.values()] == ["mine", "mine"]
    one.close()
    two.close()


def test_a_member_that_leaves_is_not_asked_what_it_gives_away(
    cluster: RecordLog, topic: str
) -> None:
    one = cluster.group(group=f"g-{topic}", topics=(topic,), client="one")
    one.part_with(lambda taken: {partition: Commit(0, "moved") for partition in taken})
    read_until(one, lambda seen: held(seen) == 4)
    assert one.commit({partition: Commit(0, "mine") for partition in one.assignment()})
    one.close()
    two = cluster.group(group=f"g-{topic}", topics=(topic,), client="two")
    read_until(two, lambda seen: held(seen) == 4)
    commits = two.committed(two.assignment())
    assert [commit.metadata for commit in commits.values()] == ["mine"] * 4
    two.close()


def test_a_member_that_never_waits_in_a_poll_joins_and_shares_all_the_same(
    cluster: RecordLog, topic: str
) -> None:
    members = [
        cluster.group(group=f"g-{topic}", topics=(topic,), client=name) for name in ("one", "two")
    ]
    counts = [0, 0]
    deadline = time.monotonic() + PATIENCE_S
    while counts != [2, 2]:
        assert time.monotonic() < deadline, f"they hold {counts} partitions"
        threading.Event().wait(0.01)
        for member in members:
            member.poll(0)
        counts = [len(member.assignment()) for member in members]
    for member in members:
        member.close()


def test_a_member_that_was_killed_is_removed_by_its_clients_name(
    describing: RecordLog, topic: str
) -> None:
    group = f"g-{topic}"
    killed = describing.group(group=group, topics=(topic,), client="killed")
    read_until(killed, lambda seen: held(seen) == 4)
    # Nobody polls it any more, as if its process were gone; its session goes on.
    membership = describing.membership(client="test")
    assert membership.remove(group, {"another"}) == 0
    assert membership.remove(group, {"killed", "another"}) == 1
    assert membership.remove(group, {"killed"}) == 0
    membership.close()
    heir = describing.group(group=group, topics=(topic,), client="heir")
    read_until(heir, lambda seen: held(seen) == 4)
    heir.close()
    killed.close()


def test_a_member_that_lives_joins_again_after_it_was_removed(
    describing: RecordLog, topic: str
) -> None:
    member = describing.group(group=f"g-{topic}", topics=(topic,), client="alive")
    read_until(member, lambda seen: held(seen) == 4)
    membership = describing.membership(client="test")
    assert membership.remove(f"g-{topic}", {"alive"}) == 1
    membership.close()
    append(describing, record(topic, b"x", partition=0))
    read_until(member, lambda seen: b"x" in values(seen) and len(member.assignment()) == 4)
    member.close()


def test_a_group_that_never_was_has_nobody_to_remove(describing: RecordLog, topic: str) -> None:
    membership = describing.membership(client="test")
    assert membership.remove(f"never-{topic}", {"one"}) == 0
    membership.close()


MEMBER = """
import sys, time
from pathlib import Path
from functions.kafka.record_log import KafkaLog
from functions.runtime.settings import BrokerSettings
bootstrap, kind, group, topic, note = sys.argv[1:]
log = KafkaLog(BrokerSettings(bootstrap=bootstrap, kind=kind))
member = log.group(group=group, topics=(topic,), client="one", member_file=Path(note))
while not member.poll(0.1).gained:
    pass
print("joined", flush=True)
time.sleep(600)
"""


def kill_a_member(cluster: KafkaLog, group: str, topic: str, note: Path) -> None:
    """A process becomes the only member of the group and is killed."""
    settings = cluster._settings
    command = [settings.bootstrap, settings.kind, group, topic, str(note)]
    with subprocess.Popen(
        [sys.executable, "-c", MEMBER, *command], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "joined\n"
        process.kill()


def test_who_starts_where_another_was_killed_gets_its_partitions_at_once(
    cluster: RecordLog, topic: str, tmp_path: Path
) -> None:
    group, note = f"g-{topic}", tmp_path / "members" / "one.json"
    if isinstance(cluster, KafkaLog):
        kill_a_member(cluster, group, topic, note)
    else:
        killed = cluster.group(group=group, topics=(topic,), client="one", member_file=note)
        read_until(killed, lambda seen: held(seen) == 4)
    heir = cluster.group(group=group, topics=(topic,), client="one", member_file=note)
    read_until(heir, lambda seen: held(seen) == 4)
    heir.close()
    assert not note.exists()


def test_one_that_is_killed_while_it_joins_has_left_its_note(
    describing: RecordLog, topic: str, tmp_path: Path
) -> None:
    group, note = f"g-{topic}", tmp_path / "members" / "one.json"
    slow = describing.group(group=group, topics=(topic,), client="slow")
    read_until(slow, lambda seen: held(seen) == 4)
    joining = describing.group(group=group, topics=(topic,), client="one", member_file=note)
    deadline = time.monotonic() + 5.0
    while not note.exists():
        # The other one does not poll: on Apache Kafka the join cannot end.
        joining.poll(0.05)
        if isinstance(describing, MemoryLog):
            break  # its notes are no files, and nobody is ever in the middle of a join
        assert time.monotonic() < deadline, "no note"
    heir = describing.group(group=group, topics=(topic,), client="one", member_file=note)
    slow.close()
    read_until(heir, lambda seen: held(seen) == 4)
    heir.close()
    joining.close()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"group": "other"}'])
def test_a_member_file_that_says_nothing_changes_nothing(
    cluster: RecordLog, topic: str, tmp_path: Path, content: bytes
) -> None:
    note = tmp_path / "one.json"
    note.write_bytes(content)
    member = cluster.group(group=f"g-{topic}", topics=(topic,), client="one", member_file=note)
    read_until(member, lambda seen: held(seen) == 4)
    member.close()


def test_a_tail_from_the_end_sees_only_what_comes_after(cluster: RecordLog, topic: str) -> None:
    append(cluster, record(topic, b"before", partition=1))
    tail = cluster.tail(topics=(topic,), client="t", from_start=False, partition=1)
    append(cluster, record(topic, b"other", partition=0), record(topic, b"after", partition=1))
    assert [b"after"] == [one.value for one in tail_until(tail, 1)]
    tail.close()


def test_a_tail_from_the_start_knows_when_it_has_caught_up(cluster: RecordLog, topic: str) -> None:
    append(cluster, *(record(topic, b"%d" % n, partition=n % 4) for n in range(8)))
    tail = cluster.tail(topics=(topic,), client="t", from_start=True)
    assert not tail.is_caught_up()
    assert 8 == len(tail_until(tail, 8))
    assert tail.is_caught_up()
    tail.close()


def test_an_empty_topic_is_caught_up_at_once(cluster: RecordLog, topic: str) -> None:
    tail = cluster.tail(topics=(topic,), client="t", from_start=True)
    assert tail.is_caught_up()
    tail.close()


def test_lag_counts_what_is_not_committed_even_before_the_first_commit(
    cluster: RecordLog, topic: str, consumer: GroupConsumer
) -> None:
    group = f"g-{topic}"
    append(cluster, *(record(topic, b"x", partition=0) for _ in range(5)))
    reader = cluster.lag_reader(client="lag")
    assert 5 == sum(one.lag for one in reader.lags({group: (topic,)})[group].values())
    read_until(consumer, lambda seen: len(values(seen)) >= 5)
    consumer.commit({PartitionId(topic, 0): Commit(4)})
    offsets = reader.lags({group: (topic,)})[group][PartitionId(topic, 0)]
    assert (1, 5, 4) == (offsets.lag, offsets.end, offsets.committed)
    reader.close()


def test_an_oversize_record_fails_alone(cluster: RecordLog, topic: str) -> None:
    appender = cluster.appender(client="test")
    big = appender.append(record(topic, b"x" * 2_000_000))
    small = appender.append(record(topic, b"small"))
    if isinstance(cluster, MemoryLog):
        assert topic == big.result(PATIENCE_S).topic, "memory has no limit of its own"
    else:
        refusal = big.exception(PATIENCE_S)
        assert isinstance(refusal, AppendFailed)
        assert refusal.is_too_large
    assert topic == small.result(PATIENCE_S).topic
    appender.close(2.0)


UNREADABLE = {
    "a broken checksum": raw_records.batch(raw_records.record(b"bad"), crc_error=1),
    "three records under a broken checksum": raw_records.batch(
        b"".join(raw_records.record(b"bad", delta=n) for n in range(3)), count=3, crc_error=1
    ),
    "what is no gzip": raw_records.batch(b"not compressed", codec=1),
    "what is no snappy": raw_records.batch(b"not compressed", codec=2),
    "what is no lz4": raw_records.batch(b"not compressed", codec=3),
    "what is no zstd": raw_records.batch(b"not compressed", codec=4),
    "a codec that nobody knows": raw_records.batch(b"not compressed", codec=7),
    "a header's name that is not UTF-8": raw_records.batch(
        raw_records.record(b"bad", headers=((b"\xff\xfe", b"v"),))
    ),
}
ODD = {
    "a timestamp beyond every calendar": raw_records.batch(
        raw_records.record(b"odd"), timestamp_ms=2**62
    ),
    "a timestamp before 1970": raw_records.batch(raw_records.record(b"odd"), timestamp_ms=-5),
    "a tombstone without a key": raw_records.batch(raw_records.record(None)),
    "more offsets than records": raw_records.batch(raw_records.record(b"odd"), count=3),
    "a header without a value": raw_records.batch(
        raw_records.record(b"odd", headers=((b"ce_id", None),))
    ),
    "an empty name of a header": raw_records.batch(
        raw_records.record(b"odd", headers=((b"", b"v"),))
    ),
}


on_the_wire = pytest.mark.parametrize(
    "cluster", ["embedded", pytest.param("kafka", marks=pytest.mark.kafka)], indirect=True
)
"""Memory holds records, not bytes."""


def is_stored(cluster: KafkaLog, topic: str, data: bytes) -> bool:
    """Whether the broker keeps a batch: Apache Kafka looks into most of them and refuses what is broken."""
    return raw_records.produce(cluster._settings.bootstrap, topic, 1, data) == 0


@on_the_wire
@pytest.mark.parametrize("what", UNREADABLE)
def test_a_record_that_cannot_be_read_says_so_and_is_in_nobodys_way(
    cluster: KafkaLog, topic: str, consumer: GroupConsumer, what: str
) -> None:
    append(cluster, record(topic, b"before", partition=1))
    has_bad = is_stored(cluster, topic, UNREADABLE[what])
    append(cluster, record(topic, b"after", partition=1))
    polls = read_until(consumer, lambda seen: b"after" in values(seen))
    records = [one for poll in polls for one in poll.records]
    assert [one.value for one in records if one.unreadable is None] == [b"before", b"after"]
    assert [one.offset for one in records] == list(range(len(records)))
    assert all(one.unreadable is None or one.topic == topic for one in records)
    assert (len(records) > 2) == has_bad
    tail = cluster.tail(topics=(topic,), client="t", from_start=True)
    found = tail_until(tail, len(records))
    assert [one.offset for one in found] == [one.offset for one in records]
    assert tail.is_caught_up()
    tail.close()


@on_the_wire
@pytest.mark.parametrize("what", UNREADABLE)
def test_a_record_that_cannot_be_read_is_known_when_it_is_the_last_one(
    cluster: KafkaLog, topic: str, consumer: GroupConsumer, what: str
) -> None:
    has_bad = is_stored(cluster, topic, UNREADABLE[what])
    if not has_bad:
        append(cluster, record(topic, b"only", partition=1))
    polls = read_until(consumer, lambda seen: any(poll.records for poll in seen))
    first = next(one for poll in polls for one in poll.records)
    assert bool(first.unreadable) == has_bad
    assert first.offset == 0


@on_the_wire
@pytest.mark.parametrize("what", ODD)
def test_an_odd_record_is_read_like_any_other(
    cluster: KafkaLog, topic: str, consumer: GroupConsumer, what: str
) -> None:
    expected = 1 + is_stored(cluster, topic, ODD[what])
    append(cluster, record(topic, b"after", partition=1))
    polls = read_until(consumer, lambda seen: b"after" in values(seen))
    readable = [one for poll in polls for one in poll.records if one.unreadable is None]
    assert len(readable) == expected


@on_the_wire
@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_every_codec_is_read(
    cluster: KafkaLog, topic: str, consumer: GroupConsumer, codec: str
) -> None:
    producer = Producer(
        {
            "bootstrap.servers": cluster._settings.bootstrap,
            "compression.type": codec,
            "linger.ms": 50,
        }
    )
    for n in range(20):
        producer.produce(topic, b"%d " % n * 200, partition=0)
    assert producer.flush(PATIENCE_S) == 0
    polls = read_until(consumer, lambda seen: len(values(seen)) >= 20)
    assert values(polls) == [b"%d " % n * 200 for n in range(20)]


def test_nothing_that_waits_is_lost_when_members_join_and_leave(
    cluster: RecordLog, topic: str
) -> None:
    """Fetched, paused and waiting records of every partition, while the group is rebalanced three times."""
    group, count = f"g-{topic}", 240
    append(cluster, *(record(topic, b"%d" % n, partition=n % 4) for n in range(count)))
    seen: set[bytes] = set()
    lock = threading.Lock()
    is_enough = threading.Event()

    def work(member: GroupConsumer, leaves_after: int | None) -> None:
        """Commits what it reads, one record a poll; pauses what it has not come to."""
        waiting: list[Record] = []
        mine: set[PartitionId] = set()
        finished = 0
        while not is_enough.is_set() and finished != leaves_after:
            polled = member.poll(0.05)
            mine = (mine - polled.lost) | polled.gained
            waiting = [one for one in waiting if one.partition_id not in polled.lost]
            waiting += polled.records
            member.pause({one.partition_id for one in waiting})
            if not waiting:
                member.resume(mine)
                continue
            one = waiting.pop(0)
            if member.commit({one.partition_id: Commit(one.offset + 1)}):
                finished += 1
                with lock:
                    seen.add(one.value or b"")
                    if len(seen) == count:
                        is_enough.set()
            elif one.partition_id in mine:
                waiting.insert(0, one)
        member.close()

    threads = []
    for name, leaves_after in (("one", None), ("two", 20), ("three", None)):
        member = cluster.group(group=group, topics=(topic,), client=name)
        threads.append(threading.Thread(target=work, args=(member, leaves_after), daemon=True))
        threads[-1].start()
    is_complete = is_enough.wait(2 * PATIENCE_S)
    is_enough.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert is_complete, f"{count - len(seen)} of {count} were never worked on"
    reader = cluster.lag_reader(client="lag")
    assert sum(one.lag for one in reader.lags({group: (topic,)})[group].values()) == 0
    reader.close()
