"""Works around pushes that KEDA drops (kedacore/keda v2.20.2, pkg/scaling/scale_handler.go,
startPushScalers).

KEDA names a ScaledObject's metrics when it reconciles it (`status.externalMetricNames`).
If it cannot reach the scaler then, as at an install, it leaves that trigger out.
It drops every push for the trigger until the next reconcile, which nothing causes.
The service then wakes by its lag alone, up to a polling interval later, and the HPA never gets the
scaler's number.
A change of an annotation makes KEDA reconcile again.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from functions.controller.actions import Notice, Write, refer_to_scaled_object
from functions.kubernetes.labels import PAUSED_REPLICAS, PAUSED_SCALE_IN
from functions.ports.kubernetes import SCALED_OBJECTS, Object, get_annotations, get_name
from functions.runtime.backoff import Backoff

NOT_PAUSED: Final = "false"
"""To KEDA the same as no annotation, and a change all the same."""
BACKOFF: Final = Backoff(5.0, 60.0)


@dataclass(frozen=True, slots=True)
class _Unheard:
    due_s: float
    looks: int


@dataclass(slots=True)
class KedaPushWorkaround:
    """What is known of the ScaledObjects whose pushes are not heard; one thread's."""

    _unheard: dict[str, _Unheard] = field(default_factory=dict)

    def forget(self) -> None:
        """What was seen counts no more."""
        self._unheard.clear()

    def step(self, scaled: Iterable[Object], now_s: float) -> tuple[Write, ...]:
        """The writes that make KEDA look again, each after a pause that grows from 5 s to a minute.

        `now_s` is monotonic.
        """
        before, self._unheard = self._unheard, {}
        wanted: list[Write] = []
        for obj in scaled:
            if not is_unheard(obj):
                continue
            key = f"{obj['metadata']['namespace']}/{get_name(obj)}"
            known = before.get(key) or _Unheard(now_s + BACKOFF.first_s, 1)
            if now_s >= known.due_s:
                looks = known.looks + 1
                known = _Unheard(now_s + BACKOFF.delay_s(looks), looks)
                wanted.append(_look_again(obj))
            self._unheard[key] = known
        return tuple(wanted)


def is_unheard(scaled: Object) -> bool:
    """Whether KEDA has named this ScaledObject's metrics, but none for its push trigger.

    False if it is paused, or if the annotation is in use for its own purpose.
    """
    status = scaled.get("status") or {}
    have = get_annotations(scaled)
    if "conditions" not in status or PAUSED_REPLICAS in have:
        return False
    if have.get(PAUSED_SCALE_IN, NOT_PAUSED) != NOT_PAUSED:
        return False
    names = status.get("externalMetricNames") or ()
    return any(
        trigger.get("type") == "external-push"
        and not any(name.startswith(f"s{number}-") for name in names)
        for number, trigger in enumerate(scaled["spec"].get("triggers") or ())
    )


def _look_again(obj: Object) -> Write:
    is_there = PAUSED_SCALE_IN in get_annotations(obj)
    return Write(
        verb="patch",
        resource=SCALED_OBJECTS,
        namespace=obj["metadata"]["namespace"],
        name=get_name(obj),
        body={"metadata": {"annotations": {PAUSED_SCALE_IN: None if is_there else NOT_PAUSED}}},
        notice=Notice(
            about=refer_to_scaled_object(obj),
            reason="LookAgain",
            message="KEDA did not reach the scaler when it last looked, and drops its pushes: it is to look again.",
        ),
    )
