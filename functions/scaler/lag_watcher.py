"""Reads lag and decides for every service, many times a second, in one thread.

A round reads the end offsets of all topics in one request a broker, and committed offsets where
they may have moved.
It runs Algorithm 1 for every service and publishes the decisions.
A round that fails changes nothing: the last decisions stay.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from events.names import Topics
from events.payloads import StatusData
from functions.autoscaling.desired_replicas import DesiredReplicasState
from functions.autoscaling.rate_window import RateWindow
from functions.autoscaling.scaling_state import (
    LoadReading,
    ScalingState,
    assume_service_s,
    build_limits,
)
from functions.ports.clock import Clock
from functions.ports.kafka import OffsetReader, RecordLog
from functions.runtime.settings import ScalerSettings, SpinSettings
from functions.runtime.telemetry import ScalerMetrics
from functions.scaler.latest_decisions import LatestDecisions, ServiceDecision
from functions.scaler.offset_tracker import ByTopic, ServiceOffsets, is_whole
from functions.scaler.status_reporter import ScalerReporter
from router_model.catalogue.model import Catalogue, Service
from router_model.service_registry import SCALER, Registry, ServiceView

CLIENT: Final = "pickspin-scaler"
REST_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WatcherDependencies:
    """What the watcher works with."""

    log: RecordLog
    topics: Topics
    registry: Callable[[], Registry]
    catalogue: Callable[[], Catalogue]
    """The catalogue of now; called every round, by the watcher alone."""
    decisions: LatestDecisions
    reporter: ScalerReporter
    clock: Clock
    metrics: ScalerMetrics
    settings: ScalerSettings
    spin: SpinSettings


@dataclass(slots=True)
class _Watched:
    """One service between two rounds."""

    service: Service
    offsets: ServiceOffsets
    state: DesiredReplicasState
    wakings: int = 0
    decision: ServiceDecision | None = None
    decided_s: float = 0.0
    decided_on: ServiceOffsets | None = None

    def is_at_rest(self, now_s: float) -> bool:
        """Whether the last decision is fresh and wants no replica, and no offset has moved."""
        decision = self.decision
        is_fresh = now_s - self.decided_s < REST_S and self.decided_on is self.offsets
        return (
            is_fresh
            and decision is not None
            and decision.desired.replicas == 0
            and not decision.is_busy
        )


class LagWatcher:
    """Belongs to one thread; `age_s` may be read by any."""

    def __init__(self, parts: WatcherDependencies) -> None:
        self._parts = parts
        self._reader: OffsetReader | None = None
        self._catalogue: Catalogue | None = None
        self._watched: dict[str, _Watched] = {}
        self._names: tuple[str, ...] = ()
        self._started_s = parts.clock.monotonic_s()
        self._refreshed_s = self._started_s
        self._whole_s: float | None = None

    def age_s(self) -> float | None:
        """Seconds since the last reading that had every partition; None: there was none."""
        if self._whole_s is None:
            return None
        return self._parts.clock.monotonic_s() - self._whole_s

    def round(self) -> None:
        """One round.

        Raises whatever reading raised; the next one opens new connections.

        Without ends nothing changes: sleeping needs a reading as waking does.
        Without commits the known ones count, so that a coordinator that is away delays no waking.
        """
        self._follow_catalogue()
        began_s = self._parts.clock.monotonic_s()
        try:
            ends = self._read_ends(began_s)
            try:
                self._read_commits(began_s)
            finally:
                self._publish()
        except Exception:
            self.close()
            raise
        if is_whole(ends, self._names):
            self._whole_s = self._parts.clock.monotonic_s()

    def _publish(self) -> None:
        changed = self._decide()
        decisions = {slug: watched.decision for slug, watched in self._watched.items()}
        self._parts.decisions.publish(
            {slug: decision for slug, decision in decisions.items() if decision}
        )
        for slug, decision in changed.items():
            self._parts.reporter.report(self._watched[slug].service, decision)

    def close(self) -> None:
        """Closes the connections; the next round opens new ones."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    def _follow_catalogue(self) -> None:
        catalogue = self._parts.catalogue()
        if catalogue is self._catalogue:
            return
        self._catalogue = catalogue
        services = {service.slug: service for service in catalogue.services if service.enabled}
        self._watched = {
            slug: self._known_or_fresh(slug, service) for slug, service in services.items()
        }
        self._names = tuple(
            topic for watched in self._watched.values() for topic in watched.offsets.topics
        )
        self._parts.decisions.declare(frozenset(services))
        self._parts.reporter.forget_others(frozenset(services))

    def _known_or_fresh(self, slug: str, service: Service) -> _Watched:
        known = self._watched.get(slug)
        if known is not None:
            known.service, known.decided_on = service, None
            return known
        window = RateWindow(window_s=self._parts.spin.window_s)
        scaling = ScalingState(window=window, started_s=self._parts.clock.monotonic_s())
        offsets = ServiceOffsets(topics=self._parts.topics.of_service(slug))
        return _Watched(service, offsets, DesiredReplicasState(scaling=scaling))

    def _read_ends(self, now_s: float) -> ByTopic:
        reader = self._reader = self._reader or self._parts.log.offset_reader(client=CLIENT)
        if now_s - self._refreshed_s >= self._parts.settings.refresh_s:
            self._refreshed_s = now_s
            reader.refresh()
        ends = reader.ends(self._names)
        self._parts.metrics.readings.labels("ends").inc()
        for watched in self._watched.values():
            watched.offsets = watched.offsets.with_ends(ends)
        return ends

    def _read_commits(self, now_s: float) -> None:
        settings, reader = self._parts.settings, self._reader
        due = {
            slug: watched
            for slug, watched in self._watched.items()
            if watched.offsets.is_due(now_s, busy_s=settings.commit_s, quiet_s=settings.refresh_s)
        }
        if not due or reader is None:
            return
        group_of = self._parts.topics.worker_group
        commits = reader.commits({group_of(s): w.offsets.topics for s, w in due.items()})
        self._parts.metrics.readings.labels("commits").inc()
        for slug, watched in due.items():
            watched.offsets = watched.offsets.with_commits(commits[group_of(slug)], now_s)
        self._read_starts(reader, tuple(w for w in due.values() if w.offsets.lag))

    def _read_starts(self, reader: OffsetReader, lagging: tuple[_Watched, ...]) -> None:
        """Where there is lag, how much of it retention has deleted."""
        wanted = tuple(topic for watched in lagging for topic in watched.offsets.topics)
        if not wanted:
            return
        starts = reader.starts(wanted)
        self._parts.metrics.readings.labels("starts").inc()
        for watched in lagging:
            watched.offsets = watched.offsets.with_starts(starts)

    def _decide(self) -> Mapping[str, ServiceDecision]:
        """Decides for every service with news; for those at rest, once in `REST_S`."""
        now_s, now = self._parts.clock.monotonic_s(), self._parts.clock.now()
        replicas = _group_by_service(self._parts.registry())
        changed: dict[str, ServiceDecision] = {}
        for slug, watched in self._watched.items():
            if watched.offsets.read_s is None:
                continue
            if slug not in replicas and watched.is_at_rest(now_s):
                continue
            view = Registry(entries=replicas.get(slug, {})).view(slug, now)
            changed[slug] = watched.decision = self._decide_one(watched, view)
            watched.decided_s, watched.decided_on = now_s, watched.offsets
        return changed

    def _decide_one(self, watched: _Watched, view: ServiceView) -> ServiceDecision:
        service, offsets = watched.service, watched.offsets
        reading = LoadReading(
            now_s=self._parts.clock.monotonic_s(),
            arrived=offsets.arrived,
            lag=offsets.lag,
            in_flight=view.in_flight,
            replicas=view.ready + view.starting,
            service_s=view.service_s or assume_service_s(service),
        )
        assert self._catalogue is not None  # noqa: S101 - `round` follows it first
        spin = self._parts.spin
        limits = build_limits(
            service, self._catalogue, idle_s=spin.idle_s, drain_goal_s=spin.drain_goal_s
        )
        watched.state, desired = watched.state.step(reading, limits)
        decision = ServiceDecision(
            slug=service.slug,
            lag=reading.lag,
            in_flight=reading.in_flight,
            seen=reading.replicas,
            ready=view.ready,
            rate_per_s=watched.state.scaling.window.rate_per_s(reading.now_s),
            wakings=watched.wakings,
            desired=desired,
        )
        if not decision.is_busy or (watched.decision is not None and watched.decision.is_busy):
            return decision
        watched.wakings += 1
        return replace(decision, wakings=watched.wakings)


def _group_by_service(registry: Registry) -> Mapping[str, Mapping[tuple[str, str], StatusData]]:
    """What replicas say of themselves, by service."""
    by_service: dict[str, dict[tuple[str, str], StatusData]] = {}
    for key, status in registry.entries.items():
        if key[1] == SCALER:
            continue
        by_service.setdefault(key[0], {})[key] = status
    return by_service
