"""The embedded broker gives one batch a fetch: a reader with a backlog goes on fetching, and waits for no ring."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from kafka.errors import CorruptRecordError

from functions.adapters import kafka_reading
from functions.adapters.kafka_reading import _Fetching
from functions.settings import BrokerSettings

BATCHES = ("first", "second", "third")
MANY = 250
UNREADABLE = "unreadable"


class Consumer:
    """As much of a KafkaConsumer as fetching needs: every poll gives one batch of one record."""

    def __init__(self, batches: Iterable[str] = BATCHES) -> None:
        self._coordinator = SimpleNamespace(need_rejoin=lambda: False)
        self._batches = iter(batches)

    def assignment(self) -> set[str]:
        return {"partition"}

    def poll(self, timeout_ms: int) -> dict[str, list[str]]:
        batch = next(self._batches, None)
        if batch == UNREADABLE:
            raise CorruptRecordError
        return {} if batch is None else {"partition": [batch]}


class Ear:
    """Never rings, and counts who waits for it."""

    def __init__(self, directory: Path, topics: tuple[str, ...]) -> None:
        self.waits = 0

    def wait(self, timeout_s: float) -> bool:
        self.waits += 1
        return False

    def close(self) -> None:
        pass


def reading(consumer: Consumer, monkeypatch: pytest.MonkeyPatch) -> _Fetching:
    monkeypatch.setattr(kafka_reading, "Ear", Ear)
    settings = BrokerSettings(kind="embedded", bootstrap="127.0.0.1:9")
    return _Fetching(settings, consumer, ("topic",))


@pytest.fixture
def fetching(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Fetching]:
    found = reading(Consumer(), monkeypatch)
    yield found
    found.close()


def test_a_reader_that_nobody_waits_for_gets_the_backlog_in_one_poll(fetching: _Fetching) -> None:
    assert fetching.poll(1.0) == {"partition": list(BATCHES)}


def test_batches_are_fetched_one_after_the_other_without_a_wait(fetching: _Fetching) -> None:
    fetching.expect(soon=True)
    found = [fetching.poll(1.0) for _ in BATCHES]
    assert found == [{"partition": [batch]} for batch in BATCHES]
    assert fetching._ear.waits == 0


def test_one_poll_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    fetching = reading(Consumer(str(n) for n in range(MANY)), monkeypatch)
    assert [len(fetching.poll(1.0)["partition"]) for _ in range(3)] == [100, 100, 50]


def test_what_was_read_before_an_unreadable_record_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fetching = reading(Consumer(["first", UNREADABLE, UNREADABLE]), monkeypatch)
    assert fetching.poll(1.0) == {"partition": ["first"]}
    with pytest.raises(CorruptRecordError):
        fetching.poll(1.0)
    assert fetching._ear.waits == 0


def test_what_was_read_before_a_rebalance_is_given_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    consumer = Consumer()
    fetching, joining = reading(consumer, monkeypatch), iter([False, True])
    consumer._coordinator.need_rejoin = lambda: next(joining)
    assert fetching.poll(1.0) == {"partition": ["first"]}


def test_after_an_empty_fetch_the_reader_waits_for_a_ring(fetching: _Fetching) -> None:
    fetching.expect(soon=True)
    for _ in (*BATCHES, "nothing"):
        fetching.poll(1.0)
    fetching.poll(1.0)
    assert fetching._ear.waits == 1
