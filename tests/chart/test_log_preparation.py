"""The chart's log preparation against Apache Kafka: what is missing is made, what is there stays."""

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from events.event import PartitionId, Record
from functions.kafka.record_log import KafkaLog
from functions.local.broker_kafka import start_kafka
from functions.ports.kafka import Commit
from functions.runtime.settings import BrokerSettings, Settings

PROGRAM = Path(__file__).parents[2] / "keda" / "files" / "prepare_log.py"
PLAN = {
    "topics": [
        {"name": "infer.requests", "partitions": 3, "retention_s": 3600},
        {"name": "infer.status", "partitions": 2, "compacted": True},
    ],
    "groups": {"infer-router": ["infer.requests"]},
}

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def program():
    spec = importlib.util.spec_from_file_location("prepare_log", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    kafka = start_kafka(tmp_path / "kafka")
    try:
        yield Settings(broker=BrokerSettings(bootstrap=kafka.bootstrap))
    finally:
        kafka.stop()


def offsets(settings: Settings) -> dict[PartitionId, int | None]:
    reader = KafkaLog(settings.broker).lag_reader(client="test")
    try:
        found = reader.lags({"infer-router": ("infer.requests",)})["infer-router"]
    finally:
        reader.close()
    return {part: one.committed for part, one in found.items()}


def test_missing_topics_and_offsets_are_made_and_others_are_left(program, settings, capsys):
    program.prepare(settings, PLAN)
    parts = [PartitionId("infer.requests", number) for number in range(3)]
    assert offsets(settings) == dict.fromkeys(parts, 0)

    log = KafkaLog(settings.broker)
    appender = log.appender(client="test")
    for part in parts:
        appender.append(Record(topic=part.topic, partition=part.partition, value=b"{}")).result(30)
    appender.close(5)
    assert program.commit(settings, "infer-router", {parts[1]: 1})

    program.prepare(settings, PLAN)
    assert offsets(settings) == {parts[0]: 0, parts[1]: 1, parts[2]: 0}
    assert "nothing missing on 3 partitions" in capsys.readouterr().out


def test_a_group_with_members_keeps_its_own_offsets(program, settings, tmp_path, monkeypatch):
    program.prepare(settings, {"topics": PLAN["topics"], "groups": {}})
    part = PartitionId("infer.requests", 0)
    member = KafkaLog(settings.broker).group(
        group="infer-router", topics=("infer.requests",), client="member"
    )
    try:
        while part not in member.assignment():
            member.poll(0.5)
        assert member.commit({part: Commit(0)})
        assert not program.commit(settings, "infer-router", {part: 0})
    finally:
        member.close()

    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(PLAN), encoding="utf-8")
    monkeypatch.setenv("PICKSPIN_BROKER_BOOTSTRAP", settings.broker.bootstrap)
    assert program.main([str(plan)]) == 0
    assert all(committed is not None for committed in offsets(settings).values())
