"""The Service Registry: what is known now of every service, folded from the status topic. A pure reducer.

Router, ingress, worker, scaler, controller and `pickspin up` each hold one and feed it status records in order
(`apply`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Final

from events.names import BreakerState, ReplicaState
from events.payloads import ServerInfo, StatusData

STALE_AFTER: Final = timedelta(seconds=10)
"""Replicas repeat their status every 2 s; five missed repeats mean gone."""
SCALER: Final = "_scaler"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceView:
    """One service as routing and listing see it at an instant."""

    slug: str
    state: ReplicaState
    ready: int
    in_flight: int
    capacity: int
    lag: int
    eta_s: float | None
    """Seconds until a replica is ready; 0 when one is; None when not known."""
    progress: float | None
    tokens_per_s: float | None
    service_s: float | None
    message: str | None
    starting: int = 0
    is_late: bool = False
    """It is loading for longer than was expected."""
    desired: int | None = None
    failed_starts: int = 0
    breaker: BreakerState = BreakerState.CLOSED
    retry_in_s: float | None = None
    """Until an open breaker becomes half open."""
    server: ServerInfo | None = None
    """What its model server last said of itself, also where none runs now; None: nothing yet."""

    @property
    def is_warm(self) -> bool:
        return self.ready > 0

    @property
    def is_healthy(self) -> bool:
        """Whether a request may be sent here at will. Cold is healthy; a failed last start without a ready replica is
        not, nor an open breaker, nor a half-open one while its probe is out.
        """
        if self.breaker is BreakerState.OPEN:
            return False
        if self.breaker is BreakerState.HALF_OPEN:
            return not (self.lag or self.in_flight or self.starting)
        return self.ready > 0 or (self.state is not ReplicaState.FAILED and self.failed_starts == 0)

    @property
    def is_coming_back(self) -> bool:
        """It is not healthy, but its next start is not far: what has nowhere else to go may wait for it."""
        return not self.is_healthy and self.ready == 0 and self.breaker is BreakerState.CLOSED

    @property
    def is_resting(self) -> bool:
        """It runs and fails too many calls: what has time may wait until its breaker closes."""
        return not self.is_healthy and self.ready > 0


@dataclass(frozen=True, slots=True)
class Registry:
    """All replicas by (service, replica). Build with `Registry()`, fold with `apply`."""

    entries: Mapping[tuple[str, str], StatusData] = field(default_factory=dict)
    decisions: Mapping[str, str] = field(default_factory=dict)
    """Recent decisions: request id -> service slug."""
    servers: Mapping[str, ServerInfo] = field(default_factory=dict)
    """What the model server of a service last said of itself: it outlives the replica."""

    def apply(self, status: StatusData) -> "Registry":
        """A registry with this status folded in; an older one than what is known changes nothing."""
        key = (status.service, status.replica)
        known = self.entries.get(key)
        if known is not None and known.at > status.at:
            return self
        entries = dict(self.entries)
        if status.state is ReplicaState.STOPPED:
            entries.pop(key, None)
        else:
            entries[key] = status
        if status.server is None or status.server == self.servers.get(status.service):
            return replace(self, entries=entries)
        servers = {**self.servers, status.service: status.server}
        return replace(self, entries=entries, servers=servers)

    def remove(self, service: str, replica: str) -> "Registry":
        """Without that replica (a tombstone)."""
        return replace(
            self,
            entries={k: v for k, v in self.entries.items() if k != (service, replica)},
        )

    def read_only(self) -> "Registry":
        """The same, for those who must not change it."""
        return Registry(
            entries=MappingProxyType(self.entries),
            decisions=MappingProxyType(self.decisions),
            servers=MappingProxyType(self.servers),
        )

    def view(self, slug: str, now: datetime) -> ServiceView:
        """What is known of a service at `now`. A service without a status is cold."""
        replicas = [
            status
            for (service, replica), status in self.entries.items()
            if service == slug and replica != SCALER
        ]
        fresh = [status for status in replicas if now - status.at <= STALE_AFTER]
        scaler = self.entries.get((slug, SCALER))
        if scaler is not None and now - scaler.at > STALE_AFTER:
            scaler = None
        ready = [s for s in fresh if s.state is ReplicaState.READY]
        coming = [s for s in fresh if s.state in _COMING]
        best = max(coming, key=lambda s: s.progress or 0.0, default=None)
        state = _state(ready, coming, fresh, scaler)
        etas = [s.eta_s for s in coming if s.eta_s is not None]
        eta = 0.0 if ready else min(etas, default=None if scaler is None else scaler.eta_s)
        is_late = state in _COMING and eta is not None and eta <= 0
        if state in _COMING and eta is not None:
            eta = max(LEAST_ETA_S, eta)
        health = _health(ready, replicas, scaler, now)
        speeds = [s.tokens_per_s for s in ready if s.tokens_per_s]
        durations = [s.service_s for s in ready if s.service_s]
        return ServiceView(
            slug=slug,
            state=state,
            ready=len(ready),
            in_flight=sum(s.in_flight for s in ready),
            capacity=sum(s.concurrency for s in ready),
            lag=0 if scaler is None or scaler.lag is None else scaler.lag,
            eta_s=eta,
            progress=None if best is None else best.progress,
            tokens_per_s=sum(speeds) / len(speeds) if speeds else None,
            service_s=sum(durations) / len(durations) if durations else None,
            message=_message(fresh, scaler, health) or (LATE if is_late else None),
            is_late=is_late,
            starting=len(coming),
            desired=None if scaler is None else scaler.desired,
            failed_starts=health.failed_starts,
            breaker=health.breaker,
            retry_in_s=health.retry_in_s,
            server=self.servers.get(slug),
        )


LEAST_ETA_S: Final = 1.0
"""While it is loading: nobody is told that it is ready now, and then waits."""
LATE: Final = "longer than usual"
_COMING: Final = frozenset({ReplicaState.STARTING, ReplicaState.LOADING, ReplicaState.WARMING})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Health:
    """What the statuses of a service say of its failures. `message` is of the status that it comes from."""

    failed_starts: int = 0
    breaker: BreakerState = BreakerState.CLOSED
    retry_in_s: float | None = None
    message: str | None = None


_RANK: Final = (BreakerState.CLOSED, BreakerState.HALF_OPEN, BreakerState.OPEN)
_WELL: Final = _Health()


def _health(
    ready: list[StatusData],
    replicas: list[StatusData],
    scaler: StatusData | None,
    now: datetime,
) -> _Health:
    """A service with ready replicas is as well as the best of them. Without one it is as ill as its last start left
    it: whoever tells that may be gone since, an open breaker counts until its time.
    """
    if ready:
        return min((_health_of(s, now) for s in ready), key=lambda one: _RANK.index(one.breaker))
    told = [s for s in (*replicas, *filter(None, [scaler])) if s.failed_starts]
    fresh = [s for s in told if now - s.at <= STALE_AFTER or (s.retry_at and s.retry_at > now)]
    if not fresh:
        return _WELL
    return max(
        (_health_of(s, now) for s in fresh),
        key=lambda one: (_RANK.index(one.breaker), one.failed_starts),
    )


def _health_of(status: StatusData, now: datetime) -> _Health:
    breaker, retry_in_s = status.breaker, None
    if breaker is BreakerState.OPEN and status.retry_at is not None:
        left_s = (status.retry_at - now).total_seconds()
        breaker = BreakerState.after_opening(left_s)
        retry_in_s = left_s if breaker is BreakerState.OPEN else None
    return _Health(
        failed_starts=status.failed_starts,
        breaker=breaker,
        retry_in_s=retry_in_s,
        message=status.message,
    )


def _message(fresh: list[StatusData], scaler: StatusData | None, health: _Health) -> str | None:
    """The first that says something, and of what is ill in any case why."""
    said = next((s.message for s in fresh if s.message), scaler.message if scaler else None)
    return said or health.message


def _state(
    ready: list[StatusData],
    coming: list[StatusData],
    fresh: list[StatusData],
    scaler: StatusData | None,
) -> ReplicaState:
    if ready:
        return ReplicaState.READY
    if coming:
        return max(coming, key=lambda s: s.progress or 0.0).state
    if any(s.state is ReplicaState.FAILED for s in fresh):
        return ReplicaState.FAILED
    if scaler is not None and scaler.state is not ReplicaState.READY:
        return scaler.state
    return ReplicaState.COLD
