"""A Kubernetes API in memory that behaves like the real one where the controller depends on it.

Kept: one version number for all objects, conflicts on stale versions, merge patches, the status part apart from the
rest, generations that grow with the spec only, writes without effect that change nothing, deletion of what is owned,
watches that go on from a version, and versions that become too old.
"""

import copy
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from functions.ports.kubernetes import (
    KubernetesFailed,
    Listing,
    Object,
    Resource,
    Selection,
    WatchEvent,
    WatchKind,
)

Key = tuple[Resource, str, str]
_WITH_STATUS: Final = frozenset({"podautoscalers", "serverlessservices", "deployments", "pods"})
_KEPT: Final = ("uid", "creationTimestamp", "generation", "resourceVersion", "deletionTimestamp")


@dataclass(frozen=True, slots=True)
class _Change:
    version: int
    kind: WatchKind
    resource: Resource
    object: Object


class MemoryKubernetes:
    """One cluster, shared by threads. `calls` lists every call as (verb, plural, name) in order."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, str]] = []
        self._objects: dict[Key, Object] = {}
        self._changes: list[_Change] = []
        self._version = 100
        self._oldest = 100
        self._uids = itertools.count(1)
        self._failures: dict[str, list[KubernetesFailed]] = {}
        self._watching = 0
        self._condition = threading.Condition()

    # ---- what tests do to it
    def fail_next(self, verb: str, error: KubernetesFailed, times: int = 1) -> None:
        """The next calls of that verb fail."""
        with self._condition:
            self._failures.setdefault(verb, []).extend([error] * times)

    def compact(self) -> None:
        """Forgets changes up to now: watches from an older version are refused with 410."""
        with self._condition:
            self._oldest = self._version
            self._changes.clear()

    def disconnect(self) -> None:
        """Ends every open watch, as a restart of the API server does."""
        with self._condition:
            self._watching += 1
            self._condition.notify_all()

    def touch(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        change: Callable[[dict[str, Any]], None],
    ) -> Object:
        """Changes an object in place, status included, as its own controllers would."""
        with self._condition:
            body = copy.deepcopy(dict(self._find(resource, namespace, name)))
            change(body)
            return self._store((resource, namespace, name), body)

    def everything(self) -> Mapping[Key, Object]:
        """All objects now."""
        with self._condition:
            return dict(self._objects)

    def writes(self) -> list[tuple[str, str, str]]:
        """The calls that may have changed something."""
        return [call for call in self.calls if call[0] in {"create", "replace", "patch", "delete"}]

    # ---- KubernetesApi
    def listing(self, selection: Selection) -> Listing:
        with self._condition:
            self._note_call("list", selection.resource, "")
            items = tuple(
                obj
                for (resource, _, _), obj in sorted(
                    self._objects.items(), key=lambda each: each[0][1:]
                )
                if resource == selection.resource and _matches(obj, selection)
            )
            return Listing(items=items, version=str(self._version))

    def watch(self, selection: Selection, version: str, timeout_s: float) -> Iterator[WatchEvent]:
        with self._condition:
            self._note_call("watch", selection.resource, "")
            epoch, seen = self._watching, int(version)
        deadline = time.monotonic() + timeout_s
        while True:
            with self._condition:
                if seen < self._oldest:
                    raise KubernetesFailed(410, "Expired", "too old resource version")
                fresh = [each for each in self._changes if each.version > seen]
                left = deadline - time.monotonic()
                if not fresh and (epoch != self._watching or left <= 0):
                    break
                if not fresh:
                    self._condition.wait(left)
                    continue
                seen = fresh[-1].version
            for each in fresh:
                if each.resource == selection.resource and _matches(each.object, selection):
                    yield WatchEvent(each.kind, each.object)
        if epoch == self._watching:
            yield WatchEvent("BOOKMARK", {"metadata": {"resourceVersion": str(seen)}})

    def get(self, resource: Resource, namespace: str, name: str) -> Object:
        with self._condition:
            self._note_call("get", resource, name)
            return self._find(resource, namespace, name)

    def create(self, resource: Resource, namespace: str, body: Object) -> Object:
        with self._condition:
            name = body["metadata"]["name"]
            self._note_call("create", resource, name)
            key = (resource, namespace, name)
            if key in self._objects:
                raise KubernetesFailed(409, "AlreadyExists", f"{resource.plural} {name}")
            made = copy.deepcopy(dict(body))
            made["metadata"] = {
                **made["metadata"],
                "namespace": namespace,
                "uid": f"uid-{next(self._uids)}",
                "generation": 1,
            }
            return self._store(key, made)

    def replace(self, resource: Resource, namespace: str, body: Object) -> Object:
        with self._condition:
            name = body["metadata"]["name"]
            self._note_call("replace", resource, name)
            have = self._find(resource, namespace, name)
            given = body["metadata"].get("resourceVersion")
            if given is not None and given != have["metadata"]["resourceVersion"]:
                raise KubernetesFailed(409, "Conflict", "the object has been modified")
            new = copy.deepcopy(dict(body))
            kept = {key: have["metadata"][key] for key in _KEPT if key in have["metadata"]}
            new["metadata"] = {**new["metadata"], **kept, "namespace": namespace}
            if resource.plural in _WITH_STATUS:
                new = _with_status(new, have)
            return self._store((resource, namespace, name), new)

    def patch(
        self, resource: Resource, namespace: str, name: str, body: Object, subresource: str = ""
    ) -> Object:
        with self._condition:
            self._note_call("patch", resource, name)
            have = self._find(resource, namespace, name)
            patched = merged(have, body)
            if subresource == "status":
                patched = {**have, "status": patched.get("status", {})}
            elif resource.plural in _WITH_STATUS:
                patched = _with_status(patched, have)
            return self._store((resource, namespace, name), patched)

    def delete(self, resource: Resource, namespace: str, name: str, uid: str) -> None:
        with self._condition:
            self._note_call("delete", resource, name)
            have = self._find(resource, namespace, name)
            if uid and have["metadata"]["uid"] != uid:
                raise KubernetesFailed(409, "Conflict", "the uid is another")
            self._remove((resource, namespace, name))

    # ---- inside, the lock held
    def _note_call(self, verb: str, resource: Resource, name: str) -> None:
        self.calls.append((verb, resource.plural, name))
        failures = self._failures.get(verb)
        if failures:
            raise failures.pop(0)

    def _find(self, resource: Resource, namespace: str, name: str) -> Object:
        obj = self._objects.get((resource, namespace, name))
        if obj is None:
            raise KubernetesFailed(404, "NotFound", f"{resource.plural} {name}")
        return obj

    def _store(self, key: Key, body: dict[str, Any]) -> Object:
        have = self._objects.get(key)
        if have is not None:
            if body == have:
                return have
            if body.get("spec") != have.get("spec"):
                generation = have["metadata"].get("generation", 1) + 1
                body["metadata"] = {**body["metadata"], "generation": generation}
        return self._record("ADDED" if have is None else "MODIFIED", key, body)

    def _record(self, kind: WatchKind, key: Key, body: Mapping[str, Any]) -> Object:
        self._version += 1
        metadata = {**body["metadata"], "resourceVersion": str(self._version)}
        written = {**body, "metadata": metadata}
        if kind == "DELETED":
            self._objects.pop(key)
        else:
            self._objects[key] = written
        self._changes.append(_Change(self._version, kind, key[0], written))
        self._condition.notify_all()
        return written

    def _remove(self, key: Key) -> None:
        removed = self._objects[key]
        self._record("DELETED", key, removed)
        owned = [other for other, each in self._objects.items() if _is_owned(each, removed)]
        for other in owned:
            self._remove(other)


def merged(have: Any, patch: Any) -> Any:
    """A JSON merge patch (RFC 7386) applied; the inputs are left as they are."""
    if not isinstance(patch, Mapping):
        return copy.deepcopy(patch)
    result = dict(have) if isinstance(have, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def _with_status(changed: dict[str, Any], have: Object) -> dict[str, Any]:
    """Writes outside the status part leave the status as it was."""
    rest = {key: value for key, value in changed.items() if key != "status"}
    return rest | ({"status": have["status"]} if "status" in have else {})


def _is_owned(obj: Object, owner: Object) -> bool:
    owners = obj["metadata"].get("ownerReferences") or ()
    return any(each["uid"] == owner["metadata"]["uid"] for each in owners)


def _matches(obj: Object, selection: Selection) -> bool:
    if obj["metadata"]["namespace"] != selection.namespace:
        return False
    labels = obj["metadata"].get("labels") or {}
    for part in filter(None, selection.labels.split(",")):
        name, is_equal, value = part.partition("=")
        if labels.get(name) is None or (is_equal and labels[name] != value):
            return False
    for part in filter(None, selection.fields.split(",")):
        name, _, value = part.partition("=")
        if name != "metadata.name" or obj["metadata"]["name"] != value:
            return False
    return True
