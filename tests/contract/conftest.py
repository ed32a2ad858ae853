"""The clusters that the contract is run against: memory, the embedded broker, Apache Kafka."""

from collections.abc import Iterable, Iterator

import pytest

from functions.kafka.embedded.librdkafka_mock import MockCluster
from functions.kafka.record_log import KafkaLog
from functions.ports.kafka import RecordLog, TopicSpec
from functions.runtime.settings import BrokerSettings
from functions.testing.memory_broker import MemoryLog


class _EmbeddedAdmin:
    """The embedded broker creates topics in its own process, here this one."""

    def __init__(self, cluster: MockCluster) -> None:
        self._cluster = cluster

    def ensure_topics(self, topics: Iterable[TopicSpec], timeout_s: float) -> None:
        for topic in topics:
            self._cluster.create_topic(topic)


class EmbeddedLog(KafkaLog):
    def __init__(self, cluster: MockCluster) -> None:
        super().__init__(BrokerSettings(bootstrap=cluster.bootstrap, kind="embedded"))
        self._cluster = cluster

    def admin(self, *, client: str) -> _EmbeddedAdmin:  # type: ignore[override]
        return _EmbeddedAdmin(self._cluster)


@pytest.fixture(scope="session")
def mock_cluster() -> Iterator[MockCluster]:
    with MockCluster() as cluster:
        yield cluster


@pytest.fixture(
    params=[
        "memory",
        pytest.param("embedded"),
        pytest.param("kafka", marks=pytest.mark.kafka),
    ]
)
def cluster(request: pytest.FixtureRequest) -> RecordLog:
    if request.param == "memory":
        return MemoryLog()
    if request.param == "embedded":
        return EmbeddedLog(request.getfixturevalue("mock_cluster"))
    return KafkaLog(BrokerSettings(bootstrap=request.getfixturevalue("kafka_bootstrap")))
