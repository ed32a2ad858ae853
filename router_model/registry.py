"""The Service Registry: what is known now of every service, folded from the status topic. A pure reducer.

Router, ingress, scaler and console each hold one and feed it status records in order (`apply`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from events.types import ReplicaState

STALE_AFTER: Final = timedelta(seconds=10)
"""Replicas repeat their status every 2 s; five missed repeats mean gone."""
SCALER: Final = "_scaler"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaStatus:
    """Data of one `service.status` event (docs/reference/wire.md). None: not known or not applicable."""

    service: str
    replica: str
    state: ReplicaState
    at: datetime
    progress: float | None = None
    eta_s: float | None = None
    in_flight: int = 0
    concurrency: int = 1
    tokens_per_s: float | None = None
    service_s: float | None = None
    lag: int | None = None
    replicas: int | None = None
    desired: int | None = None
    message: str | None = None


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
    desired: int | None = None

    @property
    def is_warm(self) -> bool:
        return self.ready > 0

    @property
    def is_healthy(self) -> bool:
        """Cold is healthy; a failed last start without a ready replica is not (architecture section 11, no. 7)."""
        return self.ready > 0 or self.state is not ReplicaState.FAILED


@dataclass(frozen=True, slots=True)
class Registry:
    """All replicas by (service, replica). Build with `Registry()`, fold with `apply`."""

    entries: Mapping[tuple[str, str], ReplicaStatus] = field(default_factory=dict)
    decisions: Mapping[str, str] = field(default_factory=dict)
    """Recent decisions: request id -> service slug."""

    def apply(self, status: ReplicaStatus) -> "Registry":
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
        return replace(self, entries=entries)

    def remove(self, service: str, replica: str) -> "Registry":
        """Without that replica (a tombstone)."""
        return replace(
            self,
            entries={k: v for k, v in self.entries.items() if k != (service, replica)},
        )

    def view(self, slug: str, now: datetime) -> ServiceView:
        """What is known of a service at `now`; a service nobody reported is cold."""
        fresh = [
            status
            for (service, replica), status in self.entries.items()
            if service == slug and replica != SCALER and now - status.at <= STALE_AFTER
        ]
        scaler = self.entries.get((slug, SCALER))
        if scaler is not None and now - scaler.at > STALE_AFTER:
            scaler = None
        ready = [s for s in fresh if s.state is ReplicaState.READY]
        coming = [s for s in fresh if s.state in _COMING]
        best = max(coming, key=lambda s: s.progress or 0.0, default=None)
        state = _state(ready, coming, fresh, scaler)
        etas = [s.eta_s for s in coming if s.eta_s is not None]
        eta = 0.0 if ready else min(etas, default=None if scaler is None else scaler.eta_s)
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
            message=next(
                (s.message for s in fresh if s.message), scaler.message if scaler else None
            ),
            starting=len(coming),
            desired=None if scaler is None else scaler.desired,
        )


_COMING: Final = frozenset({ReplicaState.STARTING, ReplicaState.LOADING, ReplicaState.WARMING})


def _state(
    ready: list[ReplicaStatus],
    coming: list[ReplicaStatus],
    fresh: list[ReplicaStatus],
    scaler: ReplicaStatus | None,
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
