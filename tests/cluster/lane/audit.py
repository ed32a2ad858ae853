"""When the API server wrote something, as it says itself: a watch hears of it later, on a busy machine much later."""

import json
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

Event = dict[str, Any]
HPA = ":horizontal-pod-autoscaler"


class AuditLog:
    """The file that the lane's API server writes for what `cluster-init` tells it to keep.

    An event comes into it after the answer, so that whoever saw the object change may look too soon: it is waited for,
    for `patience_s`.
    """

    def __init__(self, path: Path, *, patience_s: float = 5.0) -> None:
        self._path = path
        self._patience_s = patience_s

    def scaled_up_s(self, deployment: str, since_s: float) -> float:
        """Wall time at which a replica of a deployment was written, the first time after `since_s`.

        Raises:
            AssertionError: it was not.
        """

        def is_up(body: Event) -> bool:
            return body.get("spec", {}).get("replicas", 0) > 0

        return self._await(
            "deployments", deployment, since_s, is_up, f"no replica of {deployment} was written"
        )

    def ready_s(self, pod: str, since_s: float) -> float:
        """Wall time at which a pod was written to be ready, the first time after `since_s`.

        Raises:
            AssertionError: it was not.
        """

        def is_ready(body: Event) -> bool:
            conditions = body.get("status", {}).get("conditions", [])
            return any(
                (one.get("type"), one.get("status")) == ("Ready", "True") for one in conditions
            )

        return self._await("pods", pod, since_s, is_ready, f"{pod} was never written to be ready")

    def rewrites_of_zero(self, deployment: str, since_s: float) -> int:
        """How often an HPA wrote its own number on top of KEDA's zero after `since_s`.

        KEDA ends an HPA's work by that zero, so that one which still writes had read the Deployment before: it answers
        the conflict by reading again and writing what it wanted for the old number.
        """
        found, before = 0, None
        for event in self._of("deployments", deployment, since_s):
            spec = event["requestObject"].get("spec", {})
            if "replicas" not in spec and event["objectRef"].get("subresource") != "scale":
                continue  # it says nothing of the count
            count = spec.get("replicas", 0)
            found += event["user"]["username"].endswith(HPA) and before == 0 < count
            before = count
        return found

    def _await(
        self, resource: str, name: str, since_s: float, wanted: Callable[[Event], bool], never: str
    ) -> float:
        deadline = time.monotonic() + self._patience_s
        while True:
            for event in self._of(resource, name, since_s):
                if wanted(event["requestObject"]):
                    return _finished_s(event)
            assert time.monotonic() < deadline, never
            time.sleep(0.05)

    def _of(self, resource: str, name: str, since_s: float) -> Iterator[Event]:
        """Successful writes of one object, in the order in which they were finished."""
        with self._path.open(encoding="utf-8") as lines:
            for line in lines:
                if name not in line or not line.endswith("\n"):
                    continue
                event: Event = json.loads(line)
                asked = event.get("objectRef", {})
                if (asked.get("resource"), asked.get("name")) != (resource, name):
                    continue
                if event["responseStatus"].get("code") == 200 and _finished_s(event) > since_s:
                    yield event


def _finished_s(event: Event) -> float:
    return datetime.fromisoformat(event["stageTimestamp"]).timestamp()
