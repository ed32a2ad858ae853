"""What happened when, as JSON lines: written by watchers of the API and by the tests themselves, read by both."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kube_api import KubeApi, Object, Watcher

Entry = dict[str, Any]
SERVICE_LABEL = "pickspin.io/service"


def service_of(found: Object) -> str:
    """The slug that an object of a model service belongs to, or an empty text."""
    template = found.get("spec", {}).get("template", {}).get("metadata", {})
    labels = {**found["metadata"].get("labels", {}), **template.get("labels", {})}
    return str(labels.get(SERVICE_LABEL, ""))


def is_ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


class Timeline:
    """Appends to `path`; `entries` are all of this run: enqueue, replicas, pod_ready, first_answer, zero and others."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8")
        self._changed = threading.Condition()
        self.entries: list[Entry] = []

    def note(self, event: str, *, at: float | None = None, **fields: object) -> Entry:
        """`at` is a wall time in seconds; None: now."""
        entry: Entry = {"at": round(time.time() if at is None else at, 4), "event": event, **fields}
        with self._changed:
            self.entries.append(entry)
            self._file.write(json.dumps(entry) + "\n")
            self._file.flush()
            self._changed.notify_all()
        return entry

    def await_entry(
        self, wanted: Callable[[Entry], bool], *, timeout_s: float, what: str, since: int = 0
    ) -> Entry:
        """The first entry that is `wanted`, not counting the first `since` ones, waiting for it.

        Raises:
            AssertionError: it did not come.
        """
        deadline = time.monotonic() + timeout_s
        looked = since
        with self._changed:
            while True:
                for entry in self.entries[looked:]:
                    if wanted(entry):
                        return entry
                looked = len(self.entries)
                left = deadline - time.monotonic()
                if left <= 0:
                    raise AssertionError(f"not within {timeout_s:.0f} s: {what}")
                self._changed.wait(left)

    def close(self) -> None:
        self._file.close()


class ScaleWatch:
    """Notes every change of a model service's replicas, and every pod that becomes ready or goes."""

    def __init__(self, api: KubeApi, timeline: Timeline) -> None:
        self._timeline = timeline
        self._replicas: dict[str, int] = {}
        self._ready: set[str] = set()
        self._watchers = [
            Watcher(api, "deployments", self._deployment),
            Watcher(api, "pods", self._pod),
        ]

    def _deployment(self, at: float, change: str, found: Object) -> None:
        service, name = service_of(found), found["metadata"]["name"]
        count = 0 if change == "DELETED" else found["spec"].get("replicas", 1)
        if service and self._replicas.get(name) != count:
            self._replicas[name] = count
            self._timeline.note("replicas", at=at, service=service, deployment=name, count=count)

    def _pod(self, at: float, change: str, found: Object) -> None:
        service, name = service_of(found), found["metadata"]["name"]
        if not service:
            return
        if change == "DELETED":
            self._ready.discard(name)
            self._timeline.note("pod_gone", at=at, service=service, pod=name)
        elif change == "ADDED":
            self._timeline.note("pod_made", at=at, service=service, pod=name)
        if change != "DELETED" and is_ready(found) and name not in self._ready:
            self._ready.add(name)
            self._timeline.note("pod_ready", at=at, service=service, pod=name)

    def replicas(self, service: str) -> dict[str, int]:
        """Deployments of a service and the replicas that were last written for each."""
        return {
            entry["deployment"]: self._replicas[entry["deployment"]]
            for entry in self._timeline.entries
            if entry["event"] == "replicas" and entry["service"] == service
        }

    def close(self) -> None:
        for watcher in self._watchers:
            watcher.close()
