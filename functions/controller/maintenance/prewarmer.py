"""Holds services warm ahead of requests: by the clock, and by habit; KEDA does it at the word of an annotation."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from functions.autoscaling.weekly_pattern import Arrivals, HabitTerms, is_expected
from functions.controller.actions import Notice, Write, scaled_object
from functions.kubernetes.labels import FORCED, PAUSED_REPLICAS, TRUE
from functions.ports.kubernetes import SCALED_OBJECTS, Object, annotations_of, name_of
from router_model.catalogue.cron_window import is_within
from router_model.catalogue.model import Catalogue, Service

MARGIN_S: Final = 60.0
"""A service is warm this long before its hour, beside its cold start."""
Why = Literal["schedule", "habit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """Arrivals by slug, and the oldest hour that anything was recorded in."""

    arrivals: Mapping[str, Arrivals]
    first_hour: int


def held_warm(
    catalogue: Catalogue, now: datetime, history: History | None, terms: HabitTerms
) -> Mapping[str, Why]:
    """The services that should have a replica now although nothing waits for them, and why.

    `min_warm` is not here: it is the ScaledObject's own least count.
    """
    found: dict[str, Why] = {}
    for service in catalogue.services:
        if service.enabled and (why := _why(service, now, history, terms)) is not None:
            found[service.slug] = why
    return found


def _why(service: Service, now: datetime, history: History | None, terms: HabitTerms) -> Why | None:
    windows = ((hours.start, hours.end, hours.timezone) for hours in service.warm_hours)
    if is_within(windows, now):
        return "schedule"
    if not service.warm_by_habit or history is None:
        return None
    arrivals = history.arrivals.get(service.slug, {})
    lead_s = service.cold_start_s + MARGIN_S
    return "habit" if is_expected(arrivals, history.first_hour, now, lead_s, terms) else None


def annotations(scaled: Iterable[tuple[str, Object]], warm: Mapping[str, Why]) -> Iterator[Write]:
    """The writes that make KEDA hold exactly `warm`; `scaled` are ScaledObjects with the slug of their service.

    A paused one is never held: its revision is over.
    """
    for slug, found in scaled:
        have = annotations_of(found)
        why = None if PAUSED_REPLICAS in have else warm.get(slug)
        if (have.get(FORCED) == TRUE) == (why is not None):
            continue
        reason, message = (
            ("HeldWarm", f"Kept at a replica ahead of requests: {why}.")
            if why
            else ("LetGo", "No longer kept warm ahead of requests.")
        )
        yield Write(
            verb="patch",
            resource=SCALED_OBJECTS,
            namespace=found["metadata"]["namespace"],
            name=name_of(found),
            body={"metadata": {"annotations": {FORCED: TRUE if why else None}}},
            notice=Notice(about=scaled_object(found), reason=reason, message=message),
        )
