"""A simulated service under bursty traffic: it wakes at once, sleeps after tau, and does not flap."""

import random
from collections.abc import Iterator
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from functions.autoscaling.algorithm1 import ScalingLimits
from functions.autoscaling.rate_window import RateWindow
from functions.autoscaling.scaling_state import LoadReading, ScalingState

TAU_S = 20.0
TERMS = ScalingLimits(
    concurrency=4, min_warm=0, max_replicas=6, cooldown_s=5.0, idle_s=TAU_S, drain_goal_s=4.0
)
STEP_S = 0.1
SERVICE_S = 0.4
COLD_S = 2.0


class SimulatedService:
    """Replicas that take COLD_S to load and then serve TERMS.concurrency requests each in SERVICE_S."""

    def __init__(self) -> None:
        self.now_s, self.arrived, self.lag, self.done = 0.0, 0, 0, 0.0
        self.ready_at: list[float] = []
        self.scaling = ScalingState(window=RateWindow(window_s=300.0), started_s=0.0)

    def step(self, arrivals: int) -> int:
        """One step of the fake clock; returns how many replicas were added (or removed)."""
        self.now_s += STEP_S
        self.arrived += arrivals
        self.lag += arrivals
        self._serve()
        self.scaling, decision = self.scaling.step(self._reading(), TERMS)
        change = decision.replicas - len(self.ready_at)
        assert self.lag == 0 or decision.replicas > 0, "uncommitted work without a replica"
        if change >= 0:
            self.ready_at += [self.now_s + COLD_S] * change
        else:
            self.ready_at = self.ready_at[: decision.replicas]
        return change

    def _reading(self) -> LoadReading:
        return LoadReading(
            now_s=self.now_s,
            arrived=self.arrived,
            lag=self.lag,
            in_flight=min(self.lag, TERMS.concurrency * len(self.ready_at)),
            replicas=len(self.ready_at),
            service_s=SERVICE_S,
        )

    def _serve(self) -> None:
        ready = sum(at <= self.now_s for at in self.ready_at)
        self.done += min(self.lag, ready * TERMS.concurrency * STEP_S / SERVICE_S)
        served = min(self.lag, int(self.done))
        self.lag, self.done = self.lag - served, self.done - served


def bursts(seed: int, duration_s: float) -> Iterator[int]:
    """Arrivals by step: silence, single requests, floods; gaps from well below tau to well above it."""
    source = random.Random(seed)
    spent = 0.0
    while spent < duration_s:
        for _ in range(source.randint(1, 30)):
            yield source.choice((0, 0, 1, 3, 25))
            spent += STEP_S
        quiet = int(source.expovariate(1 / TAU_S) / STEP_S)
        yield from (0 for _ in range(quiet))
        spent += quiet * STEP_S


def most_direction_changes(moves: list[tuple[float, int]], within_s: float) -> int:
    """The most sign changes among moves that lie within any `within_s` seconds."""
    most = 0
    for i, (start, _) in enumerate(moves):
        signs = [move > 0 for at, move in moves[i:] if at - start <= within_s]
        most = max(most, sum(a != b for a, b in pairwise(signs)))
    return most


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_a_bursty_trace_changes_direction_at_most_once_per_tau(seed: int) -> None:
    service = SimulatedService()
    steps = ((service.step(arrivals), service.now_s) for arrivals in bursts(seed, 400.0))
    moves = [(at_s, change) for change, at_s in steps if change]

    assert moves
    assert most_direction_changes(moves, TAU_S) <= 1


def test_it_wakes_in_the_same_step_and_sleeps_after_tau() -> None:
    service = SimulatedService()
    assert service.step(0) == 0
    assert service.step(1) == 1

    slept_after = next(i for i in range(1000) if service.step(0) < 0)

    assert TAU_S <= slept_after * STEP_S <= TAU_S + COLD_S + SERVICE_S + 1.0
    assert all(service.step(0) == 0 for _ in range(5000)), "woke without work"
