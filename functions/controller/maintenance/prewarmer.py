"""Keeps services warm by schedule and by habit, with KEDA's force-activation annotation."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from functions.autoscaling.weekly_pattern import Arrivals, HabitThresholds, is_expected
from functions.controller.actions import Notice, Write, refer_to_scaled_object
from functions.kubernetes.labels import FORCED, PAUSED_REPLICAS, TRUE
from functions.ports.kubernetes import SCALED_OBJECTS, Object, get_annotations, get_name
from router_model.catalogue.cron_window import is_within
from router_model.catalogue.model import Catalogue, Service

MARGIN_S: Final = 60.0
"""A service is warm this long before its hour, beside its cold start."""
Why = Literal["schedule", "habit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrivalHistory:
    """Arrivals by slug, and the oldest hour that anything was recorded in."""

    arrivals: Mapping[str, Arrivals]
    first_hour: int


def choose_warm(
    catalogue: Catalogue, now: datetime, history: ArrivalHistory | None, thresholds: HabitThresholds
) -> Mapping[str, Why]:
    """The services that should have a replica now although nothing waits for them, and why.

    `min_warm` is not here: it is the ScaledObject's own least count.
    """
    warm: dict[str, Why] = {}
    for service in catalogue.services:
        if service.enabled and (why := _choose_why(service, now, history, thresholds)) is not None:
            warm[service.slug] = why
    return warm


def _choose_why(
    service: Service, now: datetime, history: ArrivalHistory | None, thresholds: HabitThresholds
) -> Why | None:
    windows = ((hours.start, hours.end, hours.timezone) for hours in service.warm_hours)
    if is_within(windows, now):
        return "schedule"
    if not service.warm_by_habit or history is None:
        return None
    arrivals = history.arrivals.get(service.slug, {})
    lead_s = service.cold_start_s + MARGIN_S
    return "habit" if is_expected(arrivals, history.first_hour, now, lead_s, thresholds) else None


def plan_annotations(
    scaled: Iterable[tuple[str, Object]], warm: Mapping[str, Why]
) -> Iterator[Write]:
    """The writes that make KEDA hold exactly `warm`; `scaled` has slugs and ScaledObjects.

    A paused one is never held: its revision is over.
    """
    for slug, obj in scaled:
        have = get_annotations(obj)
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
            namespace=obj["metadata"]["namespace"],
            name=get_name(obj),
            body={"metadata": {"annotations": {FORCED: TRUE if why else None}}},
            notice=Notice(about=refer_to_scaled_object(obj), reason=reason, message=message),
        )
