"""`OffsetReader` with kafka-python: offsets of all topics at the price of one request a broker.

The requests are prepared once and sent again as they are, until leaders or partitions change. kafka-python's own admin
asks for metadata before every ListOffsets and offers no way to send a prepared request: hence its `_manager`.
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final

from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import OffsetSpec
from kafka.errors import KafkaError
from kafka.protocol.consumer import IsolationLevel, ListOffsetsRequest

from functions.ports.kafka import Numbers

ANSWER_MS: Final = 2000
"""A broker that takes longer has not answered: the others are not kept waiting for it."""
BOOTSTRAP_MS: Final = 3000

_Topic = ListOffsetsRequest.ListOffsetsTopic
_Partition = _Topic.ListOffsetsPartition


class KafkaOffsetReader:
    """One admin client with its own connections; opening it needs a broker that answers."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._admin = KafkaAdminClient(bootstrap_timeout_ms=BOOTSTRAP_MS, **options)
        self._manager: Any = self._admin._manager  # noqa: SLF001 - see the module
        self._sizes: dict[str, int] = {}
        """Partitions of each topic that exists."""
        self._leaders: dict[int, dict[str, list[int]]] = {}
        self._known: tuple[str, ...] | None = None
        self._prepared: dict[tuple[tuple[str, ...], int], list[tuple[int, Any]]] = {}

    def ends(self, topics: tuple[str, ...]) -> Mapping[str, Numbers]:
        if topics != self._known:
            self._learn(topics)
        return self._list(topics, OffsetSpec.LATEST)

    def starts(self, topics: tuple[str, ...]) -> Mapping[str, Numbers]:
        """Only of topics that `ends` was asked for last."""
        return self._list(topics, OffsetSpec.EARLIEST)

    def commits(self, groups: Mapping[str, tuple[str, ...]]) -> Mapping[str, Mapping[str, Numbers]]:
        wanted = {
            group: [
                TopicPartition(topic, number)
                for topic in topics
                for number in range(self._sizes.get(topic, 0))
            ]
            for group, topics in groups.items()
        }
        asked = {group: partitions for group, partitions in wanted.items() if partitions}
        commits = self._admin.list_group_offsets(asked) if asked else {}
        return {
            group: {
                topic: tuple(
                    _known(commits[group][TopicPartition(topic, number)].offset)
                    for number in range(self._sizes[topic])
                )
                for topic in topics
                if topic in self._sizes
            }
            for group, topics in groups.items()
        }

    def refresh(self) -> None:
        self._known = None

    def close(self) -> None:
        self._admin.close()

    def _learn(self, topics: tuple[str, ...]) -> None:
        leaders: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        sizes: dict[str, int] = {}
        for topic in self._admin.describe_topics(list(topics)):
            if topic["error_code"] != 0 or not topic["partitions"]:
                continue
            numbers = [part["partition_index"] for part in topic["partitions"]]
            sizes[topic["name"]] = max(numbers) + 1
            for part in topic["partitions"]:
                if part["leader_id"] >= 0:
                    leaders[part["leader_id"]][topic["name"]].append(part["partition_index"])
        self._sizes, self._leaders, self._known = sizes, leaders, topics
        self._prepared.clear()

    def _list(self, topics: tuple[str, ...], spec: int) -> Mapping[str, Numbers]:
        key = topics, int(spec)
        if key not in self._prepared:
            self._prepared[key] = self._requests(frozenset(topics), spec)
        offsets: dict[str, list[int | None]] = {
            topic: [None] * self._sizes[topic] for topic in topics if topic in self._sizes
        }
        for answer in self._manager.run(self._ask, self._prepared[key]):
            for topic in answer.topics:
                places = offsets[topic.name]
                for part in topic.partitions:
                    if part.error_code == 0:
                        places[part.partition_index] = part.offset
                    else:
                        self._known = None
        return {topic: tuple(places) for topic, places in offsets.items()}

    def _requests(self, topics: frozenset[str], spec: int) -> list[tuple[int, Any]]:
        return [
            (
                leader,
                ListOffsetsRequest(
                    replica_id=-1,
                    isolation_level=IsolationLevel.READ_UNCOMMITTED.value,
                    topics=[
                        _Topic(
                            name=topic,
                            partitions=[
                                _Partition(partition_index=number, timestamp=int(spec))
                                for number in numbers
                            ],
                        )
                        for topic, numbers in places.items()
                        if topic in topics
                    ],
                    min_version=1,
                ),
            )
            for leader, places in self._leaders.items()
            if not topics.isdisjoint(places)
        ]

    async def _ask(self, requests: list[tuple[int, Any]]) -> list[Any]:
        """Answers of those who answered. All are asked before the first one is waited for."""
        asked = [
            self._manager.send(request, node_id=leader, request_timeout_ms=ANSWER_MS)
            for leader, request in requests
        ]
        answers: list[Any] = []
        failure: KafkaError | None = None
        for future in asked:
            try:
                answers.append(await future)
            except KafkaError as error:
                failure = error
        if failure is not None:
            self._known = None
            if not answers:
                raise failure
        return answers


def _known(offset: int) -> int | None:
    return None if offset < 0 else offset
