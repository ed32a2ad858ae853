"""`OffsetReader` against every kind of cluster: one truth, and how many requests it costs."""

import time
import uuid
from collections.abc import Mapping
from typing import Any

import pytest
from kafka.errors import KafkaError

from events.event import Record
from functions.kafka.offset_reader import KafkaOffsetReader
from functions.ports.kafka import Commit, Numbers, OffsetReader, RecordLog, TopicSpec

DELIVERED_S = 10.0
COORDINATOR_S = 30.0


@pytest.fixture
def topics(cluster: RecordLog) -> tuple[str, str]:
    names = (f"t-{uuid.uuid4().hex[:8]}", f"u-{uuid.uuid4().hex[:8]}")
    specs = [TopicSpec(name=name, partitions=2) for name in names]
    cluster.admin(client="test").ensure_topics(specs, timeout_s=20)
    return names


@pytest.fixture
def reader(cluster: RecordLog) -> Any:
    found = cluster.offset_reader(client="test")
    yield found
    found.close()


def append(cluster: RecordLog, topic: str, partition: int, count: int) -> None:
    appender = cluster.appender(client="test")
    for _ in range(count):
        appender.append(Record(topic=topic, value=b"x", partition=partition)).result(DELIVERED_S)
    appender.close(DELIVERED_S)


def committed(reader: OffsetReader, group: str, topics: tuple[str, str]) -> Mapping[str, Numbers]:
    """A new cluster has no coordinators for its first seconds."""
    deadline = time.monotonic() + COORDINATOR_S
    while True:
        try:
            return reader.commits({group: topics})[group]
        except KafkaError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def test_ends_are_known_by_topic_and_partition(
    cluster: RecordLog, reader: OffsetReader, topics: tuple[str, str]
) -> None:
    assert reader.ends(topics) == {topics[0]: (0, 0), topics[1]: (0, 0)}
    append(cluster, topics[0], 1, 3)

    assert reader.ends(topics) == {topics[0]: (0, 3), topics[1]: (0, 0)}
    assert reader.starts(topics) == {topics[0]: (0, 0), topics[1]: (0, 0)}


def test_a_group_that_never_committed_has_no_commits_and_then_what_it_committed(
    cluster: RecordLog, reader: OffsetReader, topics: tuple[str, str]
) -> None:
    group = f"g-{uuid.uuid4().hex[:8]}"
    append(cluster, topics[0], 0, 2)
    reader.ends(topics)
    none_yet = {topics[0]: (None, None), topics[1]: (None, None)}
    assert committed(reader, group, topics) == none_yet

    member = cluster.group(group=group, topics=topics[:1], client="test")
    for _ in range(100):
        polled = member.poll(0.2)
        if polled.records:
            break
    assert member.commit({polled.records[0].partition_id: Commit(1)})
    member.close()

    assert committed(reader, group, topics) == {topics[0]: (1, None), topics[1]: (None, None)}


def test_a_topic_that_does_not_exist_is_left_out_and_hides_no_other(
    cluster: RecordLog, reader: OffsetReader, topics: tuple[str, str]
) -> None:
    if type(cluster).__name__ != "KafkaLog":
        pytest.skip("the other two make a topic the moment it is named")
    asked = (*topics, f"missing-{uuid.uuid4().hex[:8]}")

    assert set(reader.ends(asked)) == set(topics)


def test_however_many_topics_a_reading_of_ends_is_one_request(
    cluster: RecordLog, reader: OffsetReader
) -> None:
    if not isinstance(reader, KafkaOffsetReader):
        pytest.skip("nothing is asked of a broker")
    names = tuple(f"m{number}-{uuid.uuid4().hex[:8]}" for number in range(30))
    specs = [TopicSpec(name=name, partitions=2) for name in names]
    cluster.admin(client="test").ensure_topics(specs, timeout_s=20)
    reader.ends(names)
    sent: list[Any] = []
    send = reader._manager.send

    def counted(request: Any, **more: Any) -> Any:
        sent.append(type(request).__name__)
        return send(request, **more)

    reader._manager.send = counted
    assert len(reader.ends(names)) == 30
    assert sent == ["ListOffsetsRequest"]
