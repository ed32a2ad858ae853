"""When the API server wrote something, as it says itself: a watch hears of it later, on a busy machine much later."""

import json
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

Event = dict[str, Any]


class AuditLog:
    """The file that the lane's API server writes for what `cluster-init` tells it to keep."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def scaled_up_s(self, deployment: str, since_s: float) -> float:
        """Wall time at which a replica of a deployment was written, the first time after `since_s`.

        Raises:
            AssertionError: it was not.
        """
        for event in self._of("deployments", deployment, since_s):
            if event["requestObject"].get("spec", {}).get("replicas", 0) > 0:
                return _finished_s(event)
        raise AssertionError(f"no replica of {deployment} was written")

    def ready_s(self, pod: str, since_s: float) -> float:
        """Wall time at which a pod was written to be ready, the first time after `since_s`.

        Raises:
            AssertionError: it was not.
        """
        for event in self._of("pods", pod, since_s):
            conditions = event["requestObject"].get("status", {}).get("conditions", [])
            if any((one.get("type"), one.get("status")) == ("Ready", "True") for one in conditions):
                return _finished_s(event)
        raise AssertionError(f"{pod} was never written to be ready")

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
