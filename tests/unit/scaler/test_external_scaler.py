"""What a stream is told, and how often, on a clock that the test moves."""

from typing import Any

from events.names import ReplicaState
from functions.scaler.external_scaler import ExternalScaler, StreamLimits, _LastPush, _Trigger
from tests.unit.scaler.conftest import Watch, catalogue_of, enqueue, finish_all, service


class Heard:
    """A stream on paper, beside a watcher."""

    def __init__(self, watch: Watch, *, holds_idle: bool = False) -> None:
        self.watch, self.asked, self.told = watch, _Trigger("tiny", holds_idle), _LastPush()
        limits = StreamLimits(push_again_s=2.0, max_streams=1)
        self.scaler = ExternalScaler(watch.decisions, watch.clock, watch.metrics, limits)

    def after(self, seconds: float) -> Any:
        """What is pushed once this much time has passed: True, False, or None for nothing."""
        decision = self.watch.round(seconds)
        if not self.scaler._is_news(self.told, decision, self.asked):
            return None
        is_active = decision.is_active(holds_idle=self.asked.holds_idle)
        now_s = self.watch.clock.monotonic_s()
        self.told = _LastPush(is_active, decision.wakings, now_s)
        return is_active


def test_the_first_word_is_what_is_whether_active_or_not(watch: Watch) -> None:
    assert Heard(watch).after(0.0) is False
    enqueue(watch.log)
    assert Heard(watch).after(0.0) is True


def test_true_comes_at_once_even_right_after_a_false(watch: Watch) -> None:
    heard = Heard(watch)
    heard.after(0.0)
    enqueue(watch.log)

    assert heard.after(0.05) is True


def test_true_is_repeated_while_nothing_reports_and_not_after(watch: Watch) -> None:
    heard = Heard(watch)
    enqueue(watch.log)
    assert [heard.after(0.5) for _ in range(9)] == [True, *([None] * 3 + [True]) * 2]
    watch.report(state=ReplicaState.LOADING)
    assert [heard.after(0.5) for _ in range(9)] == [None] * 9


def test_false_waits_a_little_so_that_short_work_is_no_storm(watch: Watch) -> None:
    heard = Heard(watch)
    pushed = []
    for number in range(200):
        if number % 2 == 0:
            enqueue(watch.log)
        else:
            finish_all(watch.log)
        watch.report()
        pushed.append(heard.after(0.6))

    trues = [each for each in pushed if each is True]
    assert 20 <= len(trues) <= 200 * 0.6 / 2.0 + 1


def test_work_that_comes_anew_within_the_pause_is_pushed_at_its_end(watch: Watch) -> None:
    heard = Heard(watch)
    enqueue(watch.log)
    watch.report()
    assert heard.after(0.0) is True
    finish_all(watch.log)
    assert heard.after(0.6) is None
    enqueue(watch.log)
    watch.report()
    assert heard.after(0.6) is None
    assert heard.after(1.0) is True


def test_with_idle_scaler_there_is_no_false_before_the_idle_time(watch: Watch) -> None:
    heard = Heard(watch, holds_idle=True)
    enqueue(watch.log)
    watch.report()
    assert heard.after(0.0) is True
    finish_all(watch.log)
    watch.report()
    assert heard.after(3.0) is None
    for _ in range(5):
        watch.report()
        assert heard.after(10.0) is None
    watch.report()
    assert heard.after(10.0) is False


def test_a_warm_pool_is_active_from_the_first_word(watch: Watch) -> None:
    watch.catalogue = catalogue_of(service(min_warm=1))

    assert Heard(watch).after(0.0) is True
