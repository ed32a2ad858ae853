"""`RecordLog` on a Kafka-protocol cluster with kafka-python: the wiring of its parts, lag and topics.

`settings.kind` `embedded` is librdkafka's mock cluster: it speaks an older protocol (`api_version`), cannot create
topics and answers an empty fetch only after its whole wait (ADR 0003).
"""

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import OffsetSpec
from kafka.errors import KafkaError, TopicAlreadyExistsError

from events.record import PartitionId
from functions.adapters.kafka_appender import KafkaAppender
from functions.adapters.kafka_coordinators import patiently
from functions.adapters.kafka_decoding import compile_one_at_a_time
from functions.adapters.kafka_membership import KafkaGroupMembership, MemberNote
from functions.adapters.kafka_offsets import KafkaOffsetReader
from functions.adapters.kafka_reading import KafkaGroupConsumer, KafkaTail
from functions.errors import StartupFailed
from functions.ports import Offsets, TopicSpec
from functions.settings import BrokerSettings

EMBEDDED_API_VERSION: Final = (2, 3)
_RETRY_S: Final = 0.1


def client_options(settings: BrokerSettings, client: str) -> dict[str, Any]:
    """kafka-python options that every client of the product shares: addresses, protocol version, security."""
    options: dict[str, Any] = {
        "bootstrap_servers": [part.strip() for part in settings.bootstrap.split(",")],
        "client_id": client,
        "security_protocol": settings.security_protocol,
        "reconnect_backoff_max_ms": 1000,
    }
    if settings.kind == "embedded":
        options["api_version"] = EMBEDDED_API_VERSION
    if settings.sasl_mechanism:
        options |= {
            "sasl_mechanism": settings.sasl_mechanism,
            "sasl_plain_username": settings.sasl_username,
            "sasl_plain_password": settings.sasl_password,
        }
    for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile"):
        if getattr(settings, name):
            options[name] = getattr(settings, name)
    return options


class KafkaLog:
    """One cluster."""

    def __init__(self, settings: BrokerSettings) -> None:
        compile_one_at_a_time()
        self._settings = settings

    def appender(self, *, client: str) -> KafkaAppender:
        return KafkaAppender(self._settings, client_options(self._settings, client))

    def group(
        self,
        *,
        group: str,
        topics: tuple[str, ...],
        client: str,
        member_file: Path | None = None,
    ) -> KafkaGroupConsumer:
        options = client_options(self._settings, client)
        note = None if member_file is None else MemberNote(member_file, group, options)
        return KafkaGroupConsumer(self._settings, options, group=group, topics=topics, note=note)

    def tail(
        self,
        *,
        topics: tuple[str, ...],
        client: str,
        from_start: bool,
        partition: int | None = None,
    ) -> KafkaTail:
        options = client_options(self._settings, client)
        return KafkaTail(
            self._settings, options, topics, from_start=from_start, partition=partition
        )

    def lag_reader(self, *, client: str) -> "KafkaLagReader":
        return KafkaLagReader(client_options(self._settings, client))

    def offset_reader(self, *, client: str) -> KafkaOffsetReader:
        return KafkaOffsetReader(client_options(self._settings, client))

    def membership(self, *, client: str) -> KafkaGroupMembership:
        return KafkaGroupMembership(client_options(self._settings, client))

    def admin(self, *, client: str) -> "KafkaTopicAdmin":
        return KafkaTopicAdmin(
            client_options(self._settings, client), may_create=self._settings.kind != "embedded"
        )


class KafkaLagReader:
    """End, start and committed offsets through the admin client: one ListOffsets a broker, one OffsetFetch a group.

    A group's coordinator that is on its way is waited for, for some seconds; then kafka-python's error is raised.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self._admin = KafkaAdminClient(**options)
        self._patiently = patiently()
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


class KafkaTopicAdmin:
    """Creates missing topics, or (`may_create` False) waits until the broker has them."""

    def __init__(self, options: dict[str, Any], *, may_create: bool) -> None:
        self._options = options
        self._may_create = may_create

    def ensure_topics(self, topics: Iterable[TopicSpec], timeout_s: float) -> None:
        """Returns when every topic has all its leaders.

        Raises:
            StartupFailed: not within `timeout_s`; names what is missing.
        """
        wanted = {topic.name: topic for topic in topics}
        deadline = time.monotonic() + timeout_s
        problem: str = "no answer"
        while time.monotonic() < deadline:
            try:
                admin = KafkaAdminClient(**self._options)
                try:
                    missing = self._attempt(admin, wanted)
                finally:
                    admin.close()
                if not missing:
                    return
                problem = "missing topics: " + ", ".join(sorted(missing))
            except (KafkaError, OSError) as error:
                problem = f"{type(error).__name__}"
            time.sleep(_RETRY_S)
        where = ",".join(self._options["bootstrap_servers"])
        raise StartupFailed(f"Kafka at {where} is not usable after {timeout_s:.0f} s ({problem})")

    def _attempt(self, admin: KafkaAdminClient, wanted: Mapping[str, TopicSpec]) -> set[str]:
        ready = {
            topic["name"]
            for topic in admin.describe_topics(None)
            if topic["error_code"] == 0
            and topic["partitions"]
            and all(part["leader_id"] >= 0 for part in topic["partitions"])
        }
        missing = wanted.keys() - ready
        if missing and self._may_create:
            for name in sorted(missing):
                try:
                    admin.create_topics({name: _creation(wanted[name])})
                except TopicAlreadyExistsError:
                    continue
        return set(missing)


def _creation(topic: TopicSpec) -> dict[str, Any]:
    configs = {"max.message.bytes": str(1024 * 1024)}
    if topic.compacted:
        configs |= {"cleanup.policy": "compact,delete"}
    if topic.retention_s is not None:
        configs["retention.ms"] = str(topic.retention_s * 1000)
    # Replication factor -1: the broker's own default (1 on one node, usually 3 on a cluster).
    return {"num_partitions": topic.partitions, "replication_factor": -1, "configs": configs}
