"""Leader election: one of several processes holds and renews a Lease, the others wait.

The rules are those of Kubernetes' own components.
A standby never compares its clock with the holder's: it takes over when it has *seen* no change of
the Lease for the whole lease time.
A leader stops by its own clock when it could not renew for the renewal time, which is shorter.
So two never act at once while clocks run at about one speed.
"""

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal

from functions.ports.clock import Clock
from functions.ports.kubernetes import LEASES, KubernetesApi, KubernetesFailed, Object
from functions.runtime.shutdown import StopFlag

log = logging.getLogger(__name__)

_JITTER: Final = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseSettings:
    """The Lease's name and times. `renew_s` < `lease_s`; `retry_s` is how often it is looked at."""

    namespace: str
    name: str
    identity: str
    lease_s: float = 15.0
    renew_s: float = 10.0
    retry_s: float = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseSighting:
    """The Lease as last seen, and when (monotonic) it was first seen so."""

    holder: str = ""
    renewals: str = ""
    """What changes with each renewal."""
    since_s: float = 0.0


def observe_lease(known: LeaseSighting | None, lease: Object, now_s: float) -> LeaseSighting:
    """`known` while the Lease is unchanged, else a new sighting from now on."""
    spec = lease.get("spec") or {}
    sighting = LeaseSighting(
        holder=spec.get("holderIdentity") or "",
        renewals=f"{spec.get('renewTime')}/{spec.get('leaseTransitions')}",
        since_s=now_s,
    )
    if known is not None and replace(sighting, since_s=known.since_s) == known:
        return known
    return sighting


def choose_step(
    sighting: LeaseSighting | None, settings: LeaseSettings, now_s: float
) -> Literal["create", "renew", "take", "wait"]:
    """What to do about the Lease; a `sighting` of None means that there is none."""
    if sighting is None:
        return "create"
    if sighting.holder == settings.identity:
        return "renew"
    if not sighting.holder or now_s - sighting.since_s >= settings.lease_s:
        return "take"
    return "wait"


def build_lease(
    settings: LeaseSettings, now: datetime, before: Object | None, *, holder: str | None = None
) -> dict[str, Any]:
    """The Lease to write: held by us, or by `holder` (empty: released)."""
    spec = dict((before or {}).get("spec") or {})
    by = settings.identity if holder is None else holder
    stamp = now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if before is None or (by and spec.get("holderIdentity") != by):
        spec["acquireTime"] = stamp
        spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + (before is not None)
    spec |= {
        "holderIdentity": by,
        "leaseDurationSeconds": max(1, int(settings.lease_s if by else 1)),
        "renewTime": stamp,
    }
    metadata = {"name": settings.name, "namespace": settings.namespace}
    if before is not None:
        metadata = dict(before["metadata"])
    return {
        "apiVersion": LEASES.api_version,
        "kind": LEASES.kind,
        "metadata": metadata,
        "spec": spec,
    }


class LeaderElection:
    """Holds the Lease or waits for it. `step` runs in one thread; `is_leader` is asked by all."""

    def __init__(self, api: KubernetesApi, settings: LeaseSettings, clock: Clock) -> None:
        self._api = api
        self._settings = settings
        self._clock = clock
        self._sighting: LeaseSighting | None = None
        self._lease: Object | None = None
        self._until_s: float | None = None
        self._was_leader = False

    def is_leader(self) -> bool:
        """True until the renewal time has passed since the last renewal."""
        until_s = self._until_s
        return until_s is not None and self._clock.monotonic_s() < until_s

    def run(self, stop: StopFlag, on_change: Callable[[bool], None]) -> None:
        """Steps until `stop`, telling every gain and loss; then lets go of the Lease."""
        while not stop.is_set():
            self.step()
            self._tell(on_change)
            wait_s = self._settings.retry_s * (1 + _JITTER * random.random())  # noqa: S311 - no secret
            stop.wait(wait_s)
        self.release()
        self._tell(on_change)

    def step(self) -> None:
        """Reads the Lease, and writes it if it is ours or free. A failure changes nothing."""
        started_s = self._clock.monotonic_s()
        try:
            self._look(started_s)
            step = choose_step(self._sighting, self._settings, started_s)
            if step == "wait":
                self._until_s = None
                return
            self._write(step)
        except KubernetesFailed as error:
            log.warning("the lease was not renewed", extra={"reason": str(error)})
            return
        # Counted from before the call: the API may have stored it long before its answer came.
        self._until_s = started_s + self._settings.renew_s

    def release(self) -> None:
        """Stops leading at once, and lets the next one take over without waiting."""
        was_leader, self._until_s = self.is_leader(), None
        if not was_leader or self._lease is None:
            return
        try:
            body = build_lease(self._settings, self._clock.now(), self._lease, holder="")
            self._api.replace(LEASES, self._settings.namespace, body)
        except KubernetesFailed as error:
            log.warning("the lease was not released", extra={"reason": str(error)})

    def _look(self, now_s: float) -> None:
        try:
            self._lease = self._api.get(LEASES, self._settings.namespace, self._settings.name)
        except KubernetesFailed as error:
            if not error.is_absent:
                raise
            self._lease, self._sighting = None, None
            return
        self._sighting = observe_lease(self._sighting, self._lease, now_s)

    def _write(self, step: str) -> None:
        body = build_lease(self._settings, self._clock.now(), self._lease)
        if step == "create":
            self._lease = self._api.create(LEASES, self._settings.namespace, body)
        else:
            self._lease = self._api.replace(LEASES, self._settings.namespace, body)
        self._sighting = observe_lease(self._sighting, self._lease, self._clock.monotonic_s())

    def _tell(self, on_change: Callable[[bool], None]) -> None:
        is_leader = self.is_leader()
        if is_leader != self._was_leader:
            self._was_leader = is_leader
            log.info(
                "leading" if is_leader else "not leading", extra={"as": self._settings.identity}
            )
            on_change(is_leader)
