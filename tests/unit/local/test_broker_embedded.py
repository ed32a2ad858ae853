"""The embedded broker as a library and as a process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from events.event import Record
from events.names import Topics
from functions.kafka.embedded import librdkafka_mock
from functions.kafka.embedded.librdkafka_mock import MockCluster, find_library
from functions.kafka.record_log import KafkaLog
from functions.ports.kafka import TopicSpec
from functions.runtime.errors import StartupFailed
from functions.runtime.process_environment import child_environ
from functions.runtime.settings import BrokerSettings, Settings

pytestmark = pytest.mark.process


def log_of(bootstrap: str) -> KafkaLog:
    return KafkaLog(BrokerSettings(bootstrap=bootstrap, kind="embedded"))


def test_a_record_comes_back_from_the_partition_it_went_to() -> None:
    with MockCluster([TopicSpec(name="t", partitions=3)]) as cluster:
        log = log_of(cluster.bootstrap)
        appender = log.appender(client="a")
        place = appender.append(Record(topic="t", value=b"hello", partition=2)).result(10.0)
        tail = log.tail(topics=("t",), client="b", from_start=True)
        found = ()
        deadline = time.monotonic() + 10.0
        while not found and time.monotonic() < deadline:
            found = tail.poll(0.2)
        tail.close()
        appender.close(5.0)

    assert place.partition == 2
    assert [(record.partition, record.value) for record in found] == [(2, b"hello")]


def test_a_topic_that_exists_is_refused_by_name() -> None:
    topic = TopicSpec(name="twice", partitions=1)
    with MockCluster([topic]) as cluster, pytest.raises(StartupFailed, match="twice"):
        cluster.create_topic(topic)


def test_closing_twice_is_allowed() -> None:
    cluster = MockCluster()
    cluster.close()
    cluster.close()


def test_without_the_wheel_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(librdkafka_mock.importlib.util, "find_spec", lambda name: None)

    with pytest.raises(StartupFailed, match=r"confluent-kafka.*--bootstrap"):
        find_library()


class BrokerProcess:
    """`python -m functions broker` in a data directory."""

    def __init__(self, data_dir: Path, *arguments: str) -> None:
        self.address = data_dir / "broker.address"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "functions", "broker", *arguments],
            env=child_environ(Settings(data_dir=str(data_dir))),
        )

    def bootstrap(self) -> str:
        deadline = time.monotonic() + 15.0
        while not self.address.exists():
            assert self.process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return self.address.read_text()


def test_the_process_has_every_topic_and_ends_on_sigterm(tmp_path: Path) -> None:
    broker = BrokerProcess(tmp_path)
    try:
        reader = log_of(broker.bootstrap()).lag_reader(client="x")
        topics = Topics()
        found = reader.lags({"g": (topics.requests, topics.model("smollm2-135m-instruct"))})
        reader.close()
    finally:
        broker.process.terminate()
        status = broker.process.wait(10.0)

    assert len(found["g"]) == 8
    assert status == 0
    assert not broker.address.exists()


def test_the_process_does_not_outlive_a_parent_that_is_gone(tmp_path: Path) -> None:
    no_parent = os.getpid() + 1_000_000
    broker = BrokerProcess(tmp_path, "--parent", str(no_parent))

    assert broker.process.wait(10.0) == -signal.SIGKILL
