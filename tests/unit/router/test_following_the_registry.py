"""The status topic folded into a registry that readers can take at any time."""

import threading
from datetime import UTC, datetime, timedelta

import pytest

from events.builders import build_decision, build_status, decision_outgoing, status_outgoing
from events.codecs.kafka_codec import outgoing_record
from events.event import Record
from events.names import ReplicaState, Topics
from events.payloads import ServerInfo, StatusData
from functions.runtime.registry_consumer import RegistryConsumer, RegistryFold
from functions.testing.memory_broker import MemoryLog

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
TOPICS = Topics()


def status_record(state: ReplicaState, at: datetime = NOW, replica: str = "0") -> Record:
    data = StatusData(service="real", replica=replica, state=state, at=at, concurrency=2, lag=7)
    return outgoing_record(status_outgoing(build_status(data), topics=TOPICS, replica=replica))


def decision_record(request_id: str, service: str) -> Record:
    made = build_decision(request_id, service, now=NOW)
    return outgoing_record(decision_outgoing(made, topics=TOPICS))


def test_status_becomes_the_view_of_a_service() -> None:
    fold = RegistryFold()
    fold.fold(
        (status_record(ReplicaState.READY), status_record(ReplicaState.COLD, replica="_scaler"))
    )
    view = fold.registry.view("real", NOW)
    assert (view.state, view.ready, view.capacity, view.lag) == (ReplicaState.READY, 1, 2, 7)


def test_what_a_model_server_said_of_itself_outlives_its_replica() -> None:
    said = ServerInfo(kind="vllm", version="0.11.2", model="org/m", context_length=32768)
    data = StatusData(service="real", replica="0", state=ReplicaState.READY, at=NOW, server=said)
    fold = RegistryFold()
    fold.fold((outgoing_record(status_outgoing(build_status(data), topics=TOPICS, replica="0")),))
    fold.fold((status_record(ReplicaState.STOPPED, NOW + timedelta(seconds=1)),))
    view = fold.registry.view("real", NOW)
    assert (view.is_warm, view.server) == (False, said)


def test_an_older_status_changes_nothing() -> None:
    fold = RegistryFold()
    older = status_record(ReplicaState.LOADING, NOW - timedelta(seconds=1))
    fold.fold((status_record(ReplicaState.READY), older))
    assert fold.registry.view("real", NOW).is_warm


def test_a_tombstone_removes_a_replica() -> None:
    fold = RegistryFold()
    fold.fold((status_record(ReplicaState.READY),))
    fold.fold((Record(topic=TOPICS.status, key=b"real/0", value=None),))
    assert not fold.registry.view("real", NOW).is_warm


def test_decisions_are_remembered_and_bounded() -> None:
    fold = RegistryFold(max_decisions=3)
    fold.fold(tuple(decision_record(f"req_{n}", "real") for n in range(5)))
    assert set(fold.registry.decisions) == {"req_2", "req_3", "req_4"}
    fold.fold((Record(topic=TOPICS.status, key=b"decision/req_4", value=None),))
    assert "req_4" not in fold.registry.decisions


def test_what_cannot_be_read_is_skipped() -> None:
    fold = RegistryFold()
    bad = Record(topic=TOPICS.status, key=b"x", value=b"junk")
    fold.fold((bad, status_record(ReplicaState.READY), bad))
    assert fold.registry.view("real", NOW).is_warm


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog()


def wait_until(condition: object) -> None:
    event = threading.Event()
    for _ in range(1000):
        if condition():  # type: ignore[operator]
            return
        event.wait(0.005)
    raise AssertionError("not within 5 s")


def test_a_tail_catches_up_and_follows(log: MemoryLog) -> None:
    log.store(status_record(ReplicaState.LOADING))
    tail = RegistryConsumer(log, TOPICS, "test")
    assert not tail.is_caught_up()
    tail.start()
    try:
        wait_until(tail.is_caught_up)
        assert tail.registry.view("real", NOW).state is ReplicaState.LOADING
        log.store(status_record(ReplicaState.READY, NOW + timedelta(seconds=1)))
        wait_until(lambda: tail.registry.view("real", NOW).is_warm)
    finally:
        tail.close()


def test_a_tail_opens_again_after_a_failure(
    log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("functions.runtime.registry_consumer.RETRY_S", 0.01)
    opened = []
    original = log.tail

    def flaky(**arguments: object) -> object:
        opened.append(1)
        if len(opened) == 1:
            raise ConnectionError("away")
        return original(**arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(log, "tail", flaky)
    tail = RegistryConsumer(log, TOPICS, "test")
    tail.start()
    try:
        wait_until(tail.is_caught_up)
    finally:
        tail.close()
    assert len(opened) == 2
