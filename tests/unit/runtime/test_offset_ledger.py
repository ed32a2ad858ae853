"""The ledger never commits past unfinished work, and what it writes into the metadata survives a crash."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.event import PartitionId
from functions.ports.kafka import Commit
from functions.runtime.offset_ledger import (
    METADATA_BYTES,
    OffsetLedger,
    PartitionLedger,
    decode,
    encode,
)

PARTITION = PartitionId("infer.model.small", 0)

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("fetch"), st.integers(1, 4)),
        st.tuples(st.just("start"), st.integers(0, 40)),
        st.tuples(st.just("finish"), st.integers(0, 40)),
        st.tuples(st.just("gap"), st.integers(0, 6)),
        st.tuples(st.just("crash"), st.just(0)),
    ),
    max_size=60,
)


@given(STEPS, st.integers(0, 10**12))
def test_the_watermark_never_passes_unfinished_work_and_never_moves_back(
    steps: list[tuple[str, int]], base: int
) -> None:
    ledger = PartitionLedger(Commit(base))
    log_end, low, unfinished, done = base, base, set[int](), set[int]()
    attempts: dict[int, int] = {}
    for step, number in steps:
        if step == "fetch":
            offset = log_end + number - 1
            log_end = offset + 1
            if ledger.note_fetched(offset):
                unfinished.add(offset)
            else:
                assert offset in done
        elif step == "start" and unfinished:
            offset = sorted(unfinished)[number % len(unfinished)]
            attempts[offset] = attempts.get(offset, 0) + 1
            assert ledger.start_attempt(offset) == attempts[offset]
        elif step == "finish" and unfinished:
            offset = sorted(unfinished)[number % len(unfinished)]
            ledger.finished(offset)
            unfinished.discard(offset)
            done.add(offset)
        elif step == "gap":
            # Offsets that are never returned: transaction markers, compacted records.
            log_end += number
        elif step == "crash":
            commit = ledger.commit()
            assert commit is not None
            ledger = PartitionLedger(commit)
            # The log is read again from the committed offset: what was unfinished comes back, nothing else.
            for offset in sorted(unfinished | {o for o in done if o >= commit.offset}):
                assert ledger.note_fetched(offset) == (offset in unfinished)
                assert ledger.attempts(offset) == (
                    attempts.get(offset, 0) if offset in unfinished else 0
                )
        mark = ledger.watermark
        assert mark is not None
        assert all(offset >= mark for offset in unfinished)
        assert mark >= low
        low = mark


def test_nothing_is_committed_where_nothing_is_known() -> None:
    assert PartitionLedger().commit() is None


@given(
    st.integers(0, 10**15),
    st.dictionaries(st.integers(0, 700), st.integers(1, 40), max_size=80),
    st.sets(st.integers(0, 700), max_size=80),
)
def test_metadata_round_trips_within_the_broker_limit(
    base: int, attempts: dict[int, int], finished: set[int]
) -> None:
    tried = {base + offset: n for offset, n in attempts.items()}
    done = {base + offset for offset in finished}
    text = encode(base, tried, done)
    kept = decode(Commit(base, text))
    assert len(text.encode()) <= METADATA_BYTES
    assert kept.attempts == tried
    assert kept.finished <= done
    if len(text) < METADATA_BYTES - 32:
        assert kept.finished == done


def test_attempts_outlive_the_finished_set_when_room_is_short() -> None:
    attempts = dict.fromkeys(range(0, 1000, 2), 2)
    finished = set(range(1, 5000, 2))
    kept = decode(Commit(0, encode(0, attempts, finished)))
    assert kept.attempts == attempts
    assert len(kept.finished) < len(finished)


def test_the_most_tried_attempts_stay_when_even_they_do_not_fit() -> None:
    attempts = dict.fromkeys(range(0, 100000, 7), 1) | {35_000: 3}
    kept = decode(Commit(0, encode(0, attempts, (), limit=200)))
    assert kept.attempts[35_000] == 3


def heir_of(ledger: PartitionLedger) -> PartitionLedger:
    return PartitionLedger(ledger.parting())


def test_an_attempt_that_runs_when_its_partition_is_taken_away_has_moved() -> None:
    ledger = PartitionLedger(Commit(0))
    assert ledger.note_fetched(0)
    ledger.start_attempt(0)
    for moves in (1, 2):
        ledger = heir_of(ledger)
        assert ledger.note_fetched(0)
        assert (ledger.attempts(0), ledger.moved(0)) == (moves, moves)
        assert ledger.start_attempt(0) == moves + 1


def test_an_attempt_that_failed_before_has_not_moved() -> None:
    ledger = PartitionLedger(Commit(0))
    for offset in (0, 1):
        assert ledger.note_fetched(offset)
        ledger.start_attempt(offset)
    ledger.end_attempt(0)
    heir = heir_of(ledger)
    assert [(heir.attempts(offset), heir.moved(offset)) for offset in (0, 1)] == [(1, 0), (1, 1)]


@pytest.mark.parametrize("end", ["end_attempt", "withdraw_attempt", "finished"])
def test_where_nothing_runs_there_is_nothing_to_say_at_parting(end: str) -> None:
    ledger = PartitionLedger(Commit(0))
    assert ledger.parting() is None
    assert ledger.note_fetched(0)
    ledger.start_attempt(0)
    assert ledger.parting() is not None
    getattr(ledger, end)(0)
    assert ledger.parting() is None


def test_a_crash_after_a_move_counts_once() -> None:
    ledger = PartitionLedger(Commit(0))
    assert ledger.note_fetched(0)
    ledger.start_attempt(0)
    heir = heir_of(ledger)
    assert heir.note_fetched(0)
    heir.start_attempt(0)
    after = PartitionLedger(heir.commit())
    assert (after.attempts(0), after.moved(0)) == (2, 1)


@given(
    st.dictionaries(
        st.integers(0, 400), st.tuples(st.integers(1, 40), st.integers(0, 50)), max_size=60
    )
)
def test_moves_round_trip_and_are_never_more_than_the_attempts(
    tried: dict[int, tuple[int, int]],
) -> None:
    attempts = {offset: n for offset, (n, _) in tried.items()}
    moved = {offset: m for offset, (_, m) in tried.items()}
    kept = decode(Commit(0, encode(0, attempts, (), moved)))
    assert kept.attempts == attempts
    assert kept.moved == {o: min(m, attempts[o]) for o, m in moved.items() if m}


def test_what_the_version_before_wrote_is_understood() -> None:
    kept = decode(Commit(5, "1|0,2.3|1-2"))
    assert (kept.attempts, kept.finished, kept.moved) == ({5: 1, 7: 3}, {6, 7}, {})


@given(st.text(max_size=60))
def test_damaged_metadata_is_read_as_nothing_or_as_bounded_numbers(text: str) -> None:
    kept = decode(Commit(3, text))
    assert all(offset >= 3 for offset in kept.attempts)


def test_a_huge_run_in_the_metadata_is_refused() -> None:
    assert decode(Commit(0, "1||0-zzzzzzzz")).finished == frozenset()


def test_a_partition_is_full_when_its_offsets_span_the_cap() -> None:
    ledger = PartitionLedger(Commit(0), span=3)
    for offset in range(3):
        assert not ledger.is_full
        ledger.note_fetched(offset)
    ledger.finished(1)
    assert ledger.is_full
    ledger.finished(0)
    assert not ledger.is_full


def test_a_withdrawn_attempt_is_given_again() -> None:
    ledger = PartitionLedger(Commit(0))
    ledger.note_fetched(0)
    assert ledger.start_attempt(0) == 1
    ledger.withdraw_attempt(0)
    assert ledger.start_attempt(0) == 1


def test_only_what_changed_is_pending() -> None:
    ledger = OffsetLedger()
    ledger.gained([PARTITION], {PARTITION: Commit(4)})
    assert ledger.pending() == {}
    assert ledger.note_fetched(PARTITION, 4)
    assert ledger.start_attempt(PARTITION, 4) == 1
    pending = ledger.pending()
    assert pending == {PARTITION: Commit(4, "2|0|")}
    ledger.committed(pending)
    assert ledger.pending() == {}
    ledger.finished(PARTITION, 4)
    assert ledger.pending() == {PARTITION: Commit(5, "")}


def test_outcomes_of_a_lost_partition_change_nothing() -> None:
    ledger = OffsetLedger()
    ledger.gained([PARTITION], {})
    ledger.note_fetched(PARTITION, 0)
    ledger.lost([PARTITION])
    ledger.finished(PARTITION, 0)
    assert ledger.pending() == {}
    assert ledger.unfinished == 0
