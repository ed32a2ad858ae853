"""The latest decision for every service.

The lag watcher's thread writes it; calls of KEDA on the event loop read it and wait for changes.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from functions.autoscaling.desired_replicas import DesiredReplicas


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceDecision:
    """What is known of one service, and how many replicas it should have."""

    slug: str
    lag: int
    in_flight: int
    seen: int
    """Replicas that report, ready or coming."""
    ready: int
    rate_per_s: float
    wakings: int
    """How often work has come to it while it had none: grows by one each time."""
    desired: DesiredReplicas

    @property
    def is_busy(self) -> bool:
        return self.lag > 0 or self.in_flight > 0

    def is_active(self, *, holds_idle: bool) -> bool:
        """Whether the target must not be at zero. `holds_idle` False leaves the idle time to KEDA."""
        return self.desired.replicas > 0 if holds_idle else self.desired.is_needed


class LatestDecisions:
    """`publish` has one thread; any may read; all else belongs to the event loop."""

    def __init__(self, monotonic_s: Callable[[], float], listener_s: float) -> None:
        self._monotonic_s = monotonic_s
        self._listener_s = listener_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._decisions: Mapping[str, ServiceDecision] = {}
        self._slugs: frozenset[str] | None = None
        self._bells: dict[str, set[asyncio.Event]] = {}
        self._streams = 0
        self._asked_s: float | None = None
        self.on_listener: Callable[[], None] = lambda: None
        """Called when the first one begins to listen."""

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Names the loop that streams wait on; before the first `publish` that should wake one."""
        self._loop = loop

    def declare(self, slugs: frozenset[str]) -> None:
        """Which services there are; the others are unknown, whatever was published of them."""
        gone = frozenset() if self._slugs is None else self._slugs - slugs
        self._slugs = slugs
        self._ring(gone)

    def publish(self, decisions: Mapping[str, ServiceDecision]) -> None:
        """Replaces all decisions; wakes the streams of services that changed for KEDA."""
        before, self._decisions = self._decisions, decisions
        self._ring(
            frozenset(
                slug
                for slug, decision in decisions.items()
                if _essence(before.get(slug)) != _essence(decision)
            )
        )

    def is_known(self, slug: str) -> bool:
        """Whether there is such a service; true before the catalogue was declared."""
        return self._slugs is None or slug in self._slugs

    def get(self, slug: str) -> ServiceDecision | None:
        """The last decision; None before the first reading."""
        return self._decisions.get(slug)

    def streams(self) -> int:
        """Open streams."""
        return self._streams

    def is_listened_to(self) -> bool:
        """Whether a stream is open, or a call came lately."""
        if self._streams:
            return True
        return self._asked_s is not None and self._monotonic_s() - self._asked_s < self._listener_s

    def note_asked(self) -> None:
        """Notes a call without a stream."""
        was_listened_to, self._asked_s = self.is_listened_to(), self._monotonic_s()
        if not was_listened_to:
            self.on_listener()

    @contextmanager
    def listening(self, slug: str) -> Iterator[asyncio.Event]:
        """An event that is set whenever the service's decision changed in what KEDA acts on."""
        bell = asyncio.Event()
        was_listened_to = self.is_listened_to()
        self._bells.setdefault(slug, set()).add(bell)
        self._streams += 1
        if not was_listened_to:
            self.on_listener()
        try:
            yield bell
        finally:
            self._streams -= 1
            self._bells[slug].discard(bell)
            if not self._bells[slug]:
                del self._bells[slug]

    def ring_all(self) -> None:
        """Wakes every stream: on the loop."""
        for bells in self._bells.values():
            for bell in bells:
                bell.set()

    def _ring(self, slugs: frozenset[str]) -> None:
        if slugs and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._set, slugs)

    def _set(self, slugs: frozenset[str]) -> None:
        for slug in slugs:
            for bell in self._bells.get(slug, ()):
                bell.set()


def _essence(decision: ServiceDecision | None) -> tuple[bool, bool, int, bool] | None:
    if decision is None:
        return None
    desired = decision.desired
    return desired.replicas > 0, desired.is_needed, decision.wakings, decision.seen > 0
