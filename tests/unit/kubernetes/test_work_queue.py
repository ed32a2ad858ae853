import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.kubernetes.work_queue import BACKOFF, WorkQueue
from functions.testing.fake_clock import FakeClock


def take(queue):
    return queue.take(0.0)


def test_a_key_is_in_it_once_however_often_it_is_added():
    queue = WorkQueue(FakeClock())
    for _ in range(5):
        queue.add("a")
    assert take(queue) == "a"
    queue.done("a", failed=False)
    assert take(queue) is None


def test_a_key_that_changes_while_it_is_worked_on_comes_again():
    queue = WorkQueue(FakeClock())
    queue.add("a")
    assert take(queue) == "a"
    queue.add("a")
    assert take(queue) is None, "nobody else works on it meanwhile"
    queue.done("a", failed=False)
    assert take(queue) == "a"


def test_failures_come_again_later_and_later():
    clock = FakeClock()
    queue = WorkQueue(clock)
    queue.add("a")
    waits = []
    for _ in range(14):
        assert take(queue) == "a"
        queue.add("a")
        queue.done("a", failed=True)
        assert take(queue) is None, "no burst of changes hastens it"
        waits.append(queue._when["a"] - clock.monotonic_s())
        clock.advance(waits[-1])
    assert waits[0] == pytest.approx(BACKOFF.first_s)
    assert waits == sorted(waits)
    assert waits[-1] == pytest.approx(BACKOFF.most_s)
    assert take(queue) == "a"
    queue.done("a", failed=False)
    queue.add("a")
    assert take(queue) == "a", "success forgets"


def test_the_earlier_of_two_times_counts():
    clock = FakeClock()
    queue = WorkQueue(clock)
    queue.add("a", 10)
    queue.add("a", 1)
    queue.add("a", 5)
    clock.advance(1)
    assert take(queue) == "a"
    queue.done("a", failed=False)
    clock.advance(60)
    assert take(queue) is None


def test_closing_ends_the_wait():
    queue = WorkQueue(FakeClock())
    queue.add("a")
    queue.close()
    assert queue.take(100) is None


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["add", "take", "ok", "no"]))))
def test_no_key_is_lost_and_none_is_worked_on_twice(moves):
    clock = FakeClock()
    queue, working, wanted = WorkQueue(clock), set(), set()
    for key, move in moves:
        if move == "add":
            queue.add(key)
            wanted.add(key)
        elif move == "take":
            found = take(queue)
            assert found is None or found not in working
            if found is not None:
                working.add(found)
                wanted.discard(found)
        elif key in working:
            working.discard(key)
            queue.done(key, failed=move == "no")
            wanted |= {key} if move == "no" else set()
    for key in working:
        queue.done(key, failed=False)
    clock.advance(2 * BACKOFF.most_s)
    found = set()
    while (key := take(queue)) is not None:
        found.add(key)
    assert wanted <= found
