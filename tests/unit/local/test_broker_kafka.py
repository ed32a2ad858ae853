"""Apache Kafka from Maven coordinates: what it says when tools are missing, and a real node when they are there."""

import shutil
import subprocess
from pathlib import Path

import pytest

from events.event import Record
from functions.kafka.record_log import KafkaLog
from functions.local import broker_kafka
from functions.local.broker_kafka import KAFKA_VERSION, ensure_jars, prepare, start_kafka
from functions.ports.kafka import TopicSpec
from functions.runtime.errors import StartupFailed
from functions.runtime.settings import BrokerSettings


@pytest.mark.parametrize("missing", ["java", "mvn"])
def test_a_missing_tool_is_named_with_a_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setattr(
        broker_kafka.shutil, "which", lambda name: None if name == missing else f"/bin/{name}"
    )

    with pytest.raises(StartupFailed, match=f"`{missing}`.*--bootstrap"):
        prepare(tmp_path / "data", libraries=tmp_path / "no-jars")


def test_what_maven_says_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(command, **options):
        return subprocess.CompletedProcess(command, 1, "[ERROR] cannot resolve\n[ERROR] again", "")

    monkeypatch.setattr(broker_kafka.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(broker_kafka.subprocess, "run", fails)

    with pytest.raises(StartupFailed, match=r"Maven failed: \[ERROR\] cannot resolve$"):
        ensure_jars(tmp_path / "jars")
    assert list(tmp_path.iterdir()) == []


def test_a_fetch_that_fails_is_tried_again_without_what_maven_remembers_of_the_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = []

    def fails_once(command, **options):
        commands.append(command)
        if len(commands) == 1:
            return subprocess.CompletedProcess(command, 1, "[ERROR] transfer failed", "")
        where = next(a for a in command if a.startswith("-DoutputDirectory="))
        Path(where.partition("=")[2]).mkdir()
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(broker_kafka.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(broker_kafka.subprocess, "run", fails_once)

    assert ensure_jars(tmp_path / "jars") == tmp_path / "jars"
    assert ["-U" in command for command in commands] == [False, True]


def test_a_fetch_that_used_up_its_time_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands = []

    def hangs(command, **options):
        commands.append(command)
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(broker_kafka.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(broker_kafka.subprocess, "run", hangs)
    monkeypatch.setattr(broker_kafka, "MAVEN_S", 0.0)

    with pytest.raises(StartupFailed, match="took more than"):
        ensure_jars(tmp_path / "jars")
    assert len(commands) == 1


def test_jars_are_fetched_once_and_no_repository_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poms = []

    def fetches(command, **options):
        poms.append(Path(command[command.index("-f") + 1]).read_text())
        where = next(a for a in command if a.startswith("-DoutputDirectory="))
        Path(where.partition("=")[2]).mkdir()
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(broker_kafka.shutil, "which", lambda name: f"/bin/{name}")
    monkeypatch.setattr(broker_kafka.subprocess, "run", fetches)

    for _ in range(2):
        assert ensure_jars(tmp_path / "jars") == tmp_path / "jars"
    assert len(poms) == 1
    assert f"<version>{KAFKA_VERSION}</version>" in poms[0]
    assert "<repositor" not in poms[0]


@pytest.mark.kafka
@pytest.mark.timeout(300)
def test_records_survive_a_killed_broker(tmp_path: Path) -> None:
    if not (shutil.which("java") and shutil.which("mvn")):
        pytest.fail("this test needs java and mvn on the PATH")
    kafka = start_kafka(tmp_path)
    try:
        log = KafkaLog(BrokerSettings(bootstrap=kafka.bootstrap))
        log.admin(client="x").ensure_topics([TopicSpec(name="t", partitions=1)], 30.0)
        appender = log.appender(client="a")
        appender.append(Record(topic="t", value=b"kept")).result(20.0)
        appender.close(5.0)
        kafka.kill()
        assert kafka.pid is None
        kafka.start()
        log.admin(client="x").ensure_topics([TopicSpec(name="t", partitions=1)], 30.0)
        tail = log.tail(topics=("t",), client="b", from_start=True)
        values = []
        for _ in range(100):
            values += [record.value for record in tail.poll(0.2)]
            if values:
                break
        tail.close()
        assert values == [b"kept"]
    finally:
        kafka.stop()
