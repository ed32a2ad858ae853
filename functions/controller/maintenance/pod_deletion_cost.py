"""Sets the deletion cost of pods: Kubernetes removes those without running calls first."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from functions.controller.actions import Write
from functions.controller.pods import Pod
from functions.kubernetes.labels import DELETION_COST
from functions.ports.clock import Clock
from functions.ports.kubernetes import PODS

BUSY: Final = "100"
IDLE: Final = "0"
EVERY_S: Final = 5.0
"""A pod's cost is changed at most this often: calls come and go faster than that."""


def correct_costs(pods: Iterable[Pod], in_flight: Mapping[str, int]) -> tuple[Write, ...]:
    """The annotations that are wrong.

    A workload's only pod has none to go before: its cost is left alone, so that services of one
    replica cost no write at all.
    """
    present = [pod for pod in pods if not pod.is_leaving]
    counts = Counter(pod.workload for pod in present)
    wanted = (
        (pod, BUSY if in_flight.get(pod.name, 0) > 0 else IDLE)
        for pod in present
        if counts[pod.workload] > 1
    )
    return tuple(
        Write(
            verb="patch",
            resource=PODS,
            namespace=pod.namespace,
            name=pod.name,
            body={"metadata": {"annotations": {DELETION_COST: cost}}},
        )
        for pod, cost in wanted
        if cost != (pod.deletion_cost or IDLE)
    )


class DeletionCosts:
    """`correct_costs` at the pace of `EVERY_S` a pod."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._written: dict[str, float] = {}

    def step(self, pods: Iterable[Pod], in_flight: Mapping[str, int]) -> tuple[Write, ...]:
        """The writes to make now; they are taken as made."""
        present = tuple(pods)
        now_s = self._clock.monotonic_s()
        names = {pod.name for pod in present}
        self._written = {
            name: at_s
            for name, at_s in self._written.items()
            if name in names and now_s - at_s < EVERY_S
        }
        due = tuple(
            write for write in correct_costs(present, in_flight) if write.name not in self._written
        )
        self._written |= {write.name: now_s for write in due}
        return due
