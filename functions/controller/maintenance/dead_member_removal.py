"""Removes members of consumer groups whose pods are gone.

A worker that is killed cannot leave its group.
Until its session ends (10 s) its partitions would rest, and new replicas wait for the group.
"""

import logging
import queue
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

from events.names import Topics
from functions.controller.pods import Pod
from functions.factories import worker_client
from functions.ports.clock import Clock
from functions.ports.kafka import GroupMembership
from functions.ports.kubernetes import Object
from functions.runtime.shutdown import StopFlag
from functions.runtime.telemetry import ControllerMetrics

log = logging.getLogger(__name__)

RUNNING_LOOKS_S: Final = (1.5, 3.0, 5.0, 8.0)
"""A pod deleted by force goes from the API first: its processes end when the kubelet gets to it."""
ENDED_LOOKS_S: Final = (0.0,)
MOST_PENDING: Final = 1000
_TURN_S: Final = 0.25


@dataclass(frozen=True, slots=True)
class GonePod:
    """A pod that is gone, and when (monotonic) its service's group is looked at for it."""

    service: str
    pod: str
    looks_s: tuple[float, ...]

    @classmethod
    def from_pod(cls, pod_object: Object, now_s: float) -> "GonePod":
        """What follows from the last that was known of a pod."""
        pod = Pod.parse(pod_object)
        return cls(pod.service, pod.name, tuple(now_s + each for each in _plan_looks(pod_object)))


def _plan_looks(obj: Object) -> tuple[float, ...]:
    status = obj.get("status") or {}
    containers: Sequence[Any] = status.get("containerStatuses", ())
    ends = [each.get("state", {}).get("terminated") for each in containers]
    if not ends or None in ends:
        return RUNNING_LOOKS_S
    # A worker that ended by itself has left its group: that costs the broker nothing.
    return () if all(end.get("exitCode") == 0 for end in ends) else ENDED_LOOKS_S


def split_due(
    gone: Iterable[GonePod], now_s: float
) -> tuple[dict[str, frozenset[str]], tuple[GonePod, ...]]:
    """Pods to look for now by service, and those that have looks left."""
    now: dict[str, set[str]] = defaultdict(set)
    later: list[GonePod] = []
    for each in gone:
        left_s = tuple(look_s for look_s in each.looks_s if look_s > now_s)
        if len(left_s) < len(each.looks_s):
            now[each.service].add(each.pod)
        if left_s:
            later.append(GonePod(each.service, each.pod, left_s))
    return {service: frozenset(pods) for service, pods in now.items()}, tuple(later)


class DeadMemberRemover:
    """Any thread may call `add`; `run` waits for the broker in a thread of its own."""

    def __init__(
        self,
        open_membership: Callable[[], GroupMembership],
        topics: Topics,
        clock: Clock,
        is_leader: Callable[[], bool],
        metrics: ControllerMetrics,
    ) -> None:
        self._open_membership = open_membership
        self._topics = topics
        self._clock = clock
        self._is_leader = is_leader
        self._metrics = metrics
        self._added: queue.SimpleQueue[GonePod] = queue.SimpleQueue()
        self._pending: tuple[GonePod, ...] = ()

    def add(self, obj: Object) -> None:
        """A pod is gone; `obj` is the last that was known of it."""
        gone = GonePod.from_pod(obj, self._clock.monotonic_s())
        if gone.looks_s:
            self._added.put(gone)

    def run(self, stop: StopFlag) -> None:
        while not stop.is_set():
            try:
                first = self._added.get(timeout=_TURN_S)
            except queue.Empty:
                first = None
            self.tick(first)

    def tick(self, first: GonePod | None = None) -> int:
        """Looks for what is due; returns how many members it removed. A standby removes none."""
        fresh = [] if first is None else [first]
        while not self._added.empty():
            fresh.append(self._added.get())
        known = (*self._pending, *fresh)[-MOST_PENDING:]
        wanted, self._pending = split_due(known, self._clock.monotonic_s())
        if not wanted or not self._is_leader():
            return 0
        try:
            return self._remove(wanted)
        except Exception as error:  # noqa: BLE001 - the session's end does it then
            log.warning("members not removed", extra={"reason": type(error).__name__})
            return 0

    def _remove(self, wanted: dict[str, frozenset[str]]) -> int:
        total = 0
        with closing(self._open_membership()) as membership:
            for service, pods in wanted.items():
                clients = {worker_client(service, pod) for pod in pods}
                count = membership.remove(self._topics.worker_group(service), clients)
                if count:
                    log.info("members removed", extra={"service": service, "count": count})
                    self._metrics.departures.labels(service).inc(count)
                total += count
        return total
