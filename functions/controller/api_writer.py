"""Carries out actions: writes to the Kubernetes API while this process leads, and emits Events."""

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any, Final

from functions.controller.actions import Action, Notice, Write
from functions.ports.clock import Clock
from functions.ports.kubernetes import EVENTS, KubernetesApi, KubernetesFailed, Object
from functions.runtime.errors import PickspinError
from functions.runtime.telemetry import ControllerMetrics

log = logging.getLogger(__name__)

QUIET_S: Final = 600.0
"""The same notice on the same object is told at most this often."""
MOST_REMEMBERED: Final = 2000
COMPONENT: Final = "pickspin-controller"
_MOST_MESSAGE: Final = 1000


class NotLeading(PickspinError):
    """The Lease was lost: nothing may be written any more."""


class ApiWriter:
    """One per process. `is_leader` is asked before every call that changes anything."""

    def __init__(
        self,
        api: KubernetesApi,
        clock: Clock,
        is_leader: Callable[[], bool],
        metrics: ControllerMetrics,
    ) -> None:
        self._api = api
        self._clock = clock
        self._is_leader = is_leader
        self._metrics = metrics
        self._told: OrderedDict[str, float] = OrderedDict()

    def carry_out(
        self, actions: Iterable[Action], learn: Callable[[Write, Object], None] | None = None
    ) -> int:
        """Does all of them in order and returns how many objects were written.

        `learn` gets each answer.

        Raises:
            NotLeading: before the first write that may not happen.
            KubernetesFailed: the API refused one; those before it are done.
        """
        count = 0
        for action in actions:
            if isinstance(action, Notice):
                self.emit(action)
                continue
            answer = self._write(action)
            count += 1
            if answer is not None and learn is not None:
                learn(action, answer)
            if action.notice is not None:
                self.emit(action.notice)
        return count

    def _write(self, write: Write) -> Object | None:
        if not self._is_leader():
            raise NotLeading(f"{write.verb} {write.resource.plural} {write.name}: not leading")
        try:
            answer = self._send(write)
        except KubernetesFailed as error:
            outcome = "conflict" if error.status == 409 else "failed"
            self._count(write, outcome)
            if error.is_refusal and write.notice is not None:
                self._tell_refusal(write.notice.about, write, error)
            raise
        self._count(write, "done")
        log.info(
            "written",
            extra={"verb": write.verb, "kind": write.resource.kind, "object": write.name}
            | ({"why": write.notice.reason} if write.notice else {}),
        )
        return answer

    def _send(self, write: Write) -> Object | None:
        resource, namespace, name = write.resource, write.namespace, write.name
        if write.verb == "create":
            return self._api.create(resource, namespace, write.body)
        if write.verb == "replace":
            return self._api.replace(resource, namespace, write.body)
        if write.verb == "patch":
            return self._api.patch(resource, namespace, name, write.body, write.subresource)
        try:
            self._api.delete(resource, namespace, name, write.uid)
        except KubernetesFailed as error:
            if not error.is_absent:
                raise
        return None

    def _count(self, write: Write, outcome: str) -> None:
        self._metrics.writes.labels(write.resource.plural, write.verb, outcome).inc()

    def _tell_refusal(self, about: Object, write: Write, error: KubernetesFailed) -> None:
        text = f"{write.verb} of {write.resource.kind} {write.name} was refused: {error.message}"
        self.emit(Notice(about=about, reason="WriteRefused", message=text, type="Warning"))

    def emit(self, notice: Notice) -> None:
        """Makes an Event, unless the same one was made a short while ago. A failure is only logged."""
        if not self._is_leader() or not self._is_news(notice):
            return
        try:
            body = build_event(notice, self._clock)
            self._api.create(EVENTS, notice.about["metadata"]["namespace"], body)
        except KubernetesFailed as error:
            log.warning("event not told", extra={"reason": notice.reason, "error": str(error)})

    def _is_news(self, notice: Notice) -> bool:
        now_s = self._clock.monotonic_s()
        key = _identify(notice)
        last_s = self._told.get(key)
        if last_s is not None and now_s - last_s < QUIET_S:
            return False
        self._told[key] = now_s
        self._told.move_to_end(key)
        while len(self._told) > MOST_REMEMBERED:
            self._told.popitem(last=False)
        return True


def _identify(notice: Notice) -> str:
    metadata = notice.about["metadata"]
    return f"{metadata.get('uid')}/{metadata['name']}/{notice.reason}/{notice.message}"


def build_event(notice: Notice, clock: Clock) -> dict[str, Any]:
    """A core/v1 Event; its name is unique to object, notice and instant."""
    now = clock.now()
    metadata = notice.about["metadata"]
    seed = f"{_identify(notice)}/{now.isoformat()}"
    stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{metadata['name'][:200]}.{hashlib.sha256(seed.encode()).hexdigest()[:16]}",
            "namespace": metadata["namespace"],
        },
        "involvedObject": {
            "apiVersion": notice.about["apiVersion"],
            "kind": notice.about["kind"],
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata.get("uid", ""),
        },
        "reason": notice.reason,
        "message": notice.message[:_MOST_MESSAGE],
        "type": notice.type,
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
        "source": {"component": COMPONENT},
    }
