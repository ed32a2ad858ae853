"""The circuit breaker of a service: opened by what failed, tried by one request, closed by an answer."""

import asyncio
from typing import Any

import pytest

from events.names import BreakerState
from functions.runtime.errors import ApiError
from functions.worker.backend_errors import BadReply, CallFailed, NotNow
from functions.worker.backend_health import BackendHealth, is_server_failure
from functions.worker.circuit_breaker import (
    BreakerRule,
    CallEnd,
    CircuitBreaker,
    compute_failed_share,
)

RULE = BreakerRule(window_s=60.0, least=4, share=0.5, open_s=10.0, most_open_s=35.0)
CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN


def after(*ends: tuple[float, str, bool], breaker: CircuitBreaker | None = None) -> CircuitBreaker:
    """`ends`: instant, tenant, whether it failed; each of a request of its own."""
    found = breaker or CircuitBreaker(rule=RULE)
    for number, (at_s, tenant, is_failure) in enumerate(ends):
        found = found.ended(CallEnd(at_s, tenant, f"{at_s}-{number}", is_failure))
    return found


def opened(at_s: float = 3.0) -> CircuitBreaker:
    return after(*[(at_s, "a", True)] * 4)


def test_it_opens_when_most_of_enough_requests_failed() -> None:
    assert after(*[(1.0, "a", True)] * 3).state(1.0) is CLOSED
    assert opened().state(3.0) is OPEN
    assert after(*[(1.0, "a", False)] * 4, *[(2.0, "a", True)] * 4).state(2.0) is CLOSED
    assert after(*[(1.0, "a", False)] * 4, *[(2.0, "a", True)] * 5).state(2.0) is OPEN


def test_attempts_of_one_request_are_one_failure() -> None:
    breaker = CircuitBreaker(rule=RULE)
    for at_s in range(9):
        breaker = breaker.ended(CallEnd(float(at_s), "a", "the same", is_failure=True))
    assert breaker.state(9.0) is CLOSED


def test_what_is_long_ago_does_not_count() -> None:
    assert after(*[(0.0, "a", True)] * 3, (61.0, "a", True)).state(61.0) is CLOSED


def test_one_tenants_bad_requests_do_not_open_it_for_another_whose_go_well() -> None:
    poison = [(float(n), "bad", True) for n in range(40)]
    assert after((0.0, "good", False), *poison).state(40.0) is CLOSED
    assert after((0.0, "good", True), *poison).state(40.0) is OPEN


def test_it_is_half_open_after_a_while_and_its_probe_decides() -> None:
    breaker = opened()
    assert (breaker.state(12.9), breaker.state(13.0)) == (OPEN, HALF_OPEN)
    assert after((13.0, "a", False), breaker=breaker).state(13.0) is CLOSED
    again = after((13.0, "a", True), breaker=breaker)
    assert (again.state(32.9), again.state(33.0)) == (OPEN, HALF_OPEN)


def test_it_stays_open_for_longer_each_time_up_to_a_bound() -> None:
    breaker, now_s, left = opened(), 3.0, []
    for _ in range(6):
        left.append(breaker.left_s(now_s))
        now_s += breaker.left_s(now_s)
        breaker = after((now_s, "a", True), breaker=breaker)
    assert left == [10.0, 20.0, 35.0, 35.0, 35.0, 35.0]


def test_calls_that_began_before_it_opened_change_nothing() -> None:
    late = after((4.0, "a", False), (5.0, "a", True), breaker=opened())
    assert late == opened()


def test_a_closed_one_has_forgotten_what_opened_it() -> None:
    closed = after((13.0, "a", False), breaker=opened())
    assert after((14.0, "a", True), breaker=closed).state(14.0) is CLOSED


def test_nothing_ended_is_no_failure() -> None:
    assert compute_failed_share(()) == 0.0


@pytest.mark.parametrize(
    ("error", "is_failure"),
    [
        (CallFailed("reset"), True),
        (BadReply("choices"), True),
        (NotNow("connect"), True),
        (NotNow("http_429"), None),
        (ApiError("backend_failed", "refused", src="model"), True),
        (ApiError("context_length_exceeded", "too long", src="model"), None),
        (ApiError("internal", "ours"), None),
    ],
)
def test_only_what_the_server_does_wrong_is_its_failure(
    error: Exception, is_failure: bool | None
) -> None:
    assert is_server_failure(error) is is_failure


class Health:
    """A `BackendHealth` on a clock of the test's own; `said` is every state it told."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.requests = 0
        self.said: list[BreakerState] = []
        self.health = BackendHealth(RULE, lambda state, _left: self.said.append(state), self.now)

    def now(self) -> float:
        return self.now_s

    async def call(self, error: Exception | None = None, **more: Any) -> None:
        wishes = {"has_stand_by": False, "may_wait": False} | more
        self.requests += 1
        async with self.health.call("a", f"r{self.requests}", **wishes):
            if error is not None:
                raise error

    async def open(self) -> None:
        """Until just enough requests have failed."""
        for _ in range(RULE.least):
            assert self.said == []
            with pytest.raises(CallFailed):
                await self.call(CallFailed("reset"))
        assert self.said == [OPEN]


def test_who_has_something_better_to_do_goes_there_at_once() -> None:
    async def scenario() -> None:
        found = Health()
        await found.open()
        with pytest.raises(CallFailed, match="breaker_open"):
            await found.call(has_stand_by=True)
        await found.call()  # named, waited for, and nobody else: tried all the same

    asyncio.run(scenario())


def test_one_probe_at_a_time_and_what_may_wait_waits_for_it() -> None:
    async def scenario() -> None:
        found = Health()
        await found.open()
        found.now_s = 10.0
        probe_may_end, order = asyncio.Event(), []

        async def probe() -> None:
            async with found.health.call("a", "probe", has_stand_by=False, may_wait=True):
                order.append("probe")
                await probe_may_end.wait()

        async def patient() -> None:
            await found.call(may_wait=True)
            order.append("patient")

        async with asyncio.timeout(5), asyncio.TaskGroup() as group:
            group.create_task(probe())
            await asyncio.sleep(0)
            group.create_task(patient())
            with pytest.raises(CallFailed, match="breaker_open"):
                await found.call(has_stand_by=True)
            assert order == ["probe"]
            probe_may_end.set()
        assert order == ["probe", "patient"]
        assert found.said == [OPEN, CLOSED]
        assert found.health.is_closed

    asyncio.run(scenario())


def test_a_probe_that_says_nothing_leaves_room_for_the_next() -> None:
    async def scenario() -> None:
        found = Health()
        await found.open()
        found.now_s = 10.0
        with pytest.raises(NotNow):
            await found.call(NotNow("http_429"))
        await found.call()
        assert found.health.is_closed

    asyncio.run(scenario())
