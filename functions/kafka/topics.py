"""`BrokerAdmin` with kafka-python's admin client."""

import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from kafka import KafkaAdminClient
from kafka.errors import KafkaError, TopicAlreadyExistsError

from functions.ports.kafka import TopicSpec
from functions.runtime.errors import StartupFailed

_RETRY_S: Final = 0.1


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
