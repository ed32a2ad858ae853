"""`LagReader` with kafka-python's admin client."""

from collections.abc import Mapping
from typing import Any

from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import OffsetSpec

from events.event import PartitionId
from functions.kafka.coordinator_retry import retry_coordinator
from functions.ports.kafka import Offsets


class KafkaLagReader:
    """End, start and committed offsets through the admin client: one ListOffsets a broker, one OffsetFetch a group.

    A group's coordinator that is on its way is waited for, for some seconds; then kafka-python's error is raised.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self._admin = KafkaAdminClient(**options)
        self._patiently = retry_coordinator()
        self._partitions: dict[str, tuple[TopicPartition, ...]] = {}

    def lags(
        self, groups: Mapping[str, tuple[str, ...]]
    ) -> Mapping[str, Mapping[PartitionId, Offsets]]:
        topics = sorted({topic for names in groups.values() for topic in names})
        self._learn(topics)
        known = [tp for topic in topics for tp in self._partitions.get(topic, ())]
        if not known:
            return {group: {} for group in groups}
        ends = self._admin.list_partition_offsets(dict.fromkeys(known, OffsetSpec.LATEST))
        specs = {
            group: [tp for topic in names for tp in self._partitions.get(topic, ())]
            for group, names in groups.items()
        }
        commits = self._patiently(self._admin.list_group_offsets, specs)
        fresh = [tp for group, tps in specs.items() for tp in tps if commits[group][tp].offset < 0]
        starts = (
            self._admin.list_partition_offsets(dict.fromkeys(set(fresh), OffsetSpec.EARLIEST))
            if fresh
            else {}
        )
        return {
            group: {
                PartitionId(*tp): _offsets(
                    ends[tp].offset, commits[group][tp].offset, starts.get(tp)
                )
                for tp in tps
            }
            for group, tps in specs.items()
        }

    def _learn(self, topics: list[str]) -> None:
        unknown = [topic for topic in topics if topic not in self._partitions]
        if not unknown:
            return
        for topic in self._admin.describe_topics(unknown):
            if topic["error_code"] == 0 and topic["partitions"]:
                self._partitions[topic["name"]] = tuple(
                    TopicPartition(topic["name"], part["partition_index"])
                    for part in topic["partitions"]
                )

    def close(self) -> None:
        self._admin.close()


def _offsets(end: int, committed: int, start: Any) -> Offsets:
    return Offsets(
        end=max(0, end),
        committed=None if committed < 0 else committed,
        start=0 if start is None else max(0, start.offset),
    )
