"""The way to the dead letter topic ends for every record; only a log that takes nothing is waited for."""

import json
from typing import Any

import pytest

from events.event import Record
from functions.runtime.dead_letter_writer import TRIES, DeadLetterWriter
from functions.runtime.errors import AppendFailed
from functions.runtime.telemetry import Metrics
from functions.testing.memory_broker import MemoryLog

DLQ = "dlq"
PLAIN = Record(topic="in", value=b"text", key=b"k", partition=2, offset=7)


def kept(log: MemoryLog, record: Record, metrics: Metrics | None = None) -> Any:
    letters = DeadLetterWriter(
        log.appender(client="t"), topic=DLQ, max_bytes=1000, metrics=metrics or Metrics()
    )
    return letters.keep(record, "invalid_event:id")


def only_letter(log: MemoryLog) -> Record:
    (found,) = log.records(DLQ)
    return found


def test_a_record_that_fits_is_kept_as_it_was() -> None:
    log = MemoryLog()
    kept(log, PLAIN).result(0)
    assert (only_letter(log).key, only_letter(log).value) == (b"k", b"text")


@pytest.mark.parametrize(
    "record",
    [
        Record(topic="in", value=b"x" * 1000, key=b"k", partition=2, offset=7),
        Record(topic="in", value=None, key=b"k" * 1000, partition=2, offset=7),
        Record(topic="in", value=b"x", headers=(("h", b"x" * 1000),), partition=2, offset=7),
        Record(topic="in", value=None, key=None, partition=2, offset=7),
    ],
    ids=["value", "key", "header", "neither key nor value"],
)
def test_what_cannot_be_written_again_is_kept_by_reference(record: Record) -> None:
    log = MemoryLog()
    kept(log, record).result(0)
    letter = only_letter(log)
    about = json.loads(letter.value or b"")
    assert (about["topic"], about["partition"], about["offset"]) == ("in", 2, 7)
    assert about["size_bytes"] == record.size_bytes
    assert about["reason"] == "invalid_event:id"
    assert letter.size_bytes < 1000


def test_what_the_broker_finds_too_large_is_kept_by_reference() -> None:
    log = MemoryLog()
    log.fail_next(DLQ, AppendFailed("the broker's own limit", is_too_large=True))
    kept(log, PLAIN).result(0)
    assert json.loads(only_letter(log).value or b"")["offset"] == 7


def test_a_log_that_takes_nothing_is_waited_for() -> None:
    log, metrics = MemoryLog(), Metrics()
    log.fail_next(DLQ, AppendFailed("away"))
    with pytest.raises(AppendFailed):
        kept(log, PLAIN, metrics).result(0)
    assert metrics.dead_letters.labels("invalid_event")._value.get() == 0


def test_a_record_that_fails_again_and_again_is_kept_by_reference() -> None:
    log, metrics = MemoryLog(), Metrics()
    letters = DeadLetterWriter(log.appender(client="t"), topic=DLQ, max_bytes=1000, metrics=metrics)
    for _ in range(TRIES):
        log.fail_next(DLQ, AppendFailed("a client library's own words", is_unknown=True))
    for _ in range(TRIES - 1):
        with pytest.raises(AppendFailed):
            letters.keep(PLAIN, "bad").result(0)
    letters.keep(PLAIN, "bad").result(0)
    assert json.loads(only_letter(log).value or b"")["offset"] == 7
    assert metrics.dead_letters.labels("bad")._value.get() == 1


def test_a_dead_letter_topic_that_is_not_there_stops_nobody_and_is_counted() -> None:
    log, metrics = MemoryLog(), Metrics()
    for _ in range(2):
        log.fail_next(DLQ, AppendFailed("no such topic", is_unroutable=True))
    kept(log, PLAIN, metrics).result(0)
    assert log.records(DLQ) == ()
    assert metrics.dead_letters.labels("lost")._value.get() == 1
