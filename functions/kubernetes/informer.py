"""An informer: lists one kind of object once, then watches it, and keeps a cache for readers.

A watch continues from the last version after every disconnect. If that version is too old (410), it
lists again and reports deleted objects as well. Now and then it reports everything again: listeners
are level-triggered.
"""

import logging
import threading
from collections.abc import Callable
from typing import Final

from functions.ports.clock import Clock
from functions.ports.kubernetes import (
    KubernetesApi,
    KubernetesFailed,
    Object,
    Selection,
    WatchEvent,
    get_name,
)
from functions.runtime.backoff import Backoff, jittered
from functions.runtime.shutdown import StopFlag

log = logging.getLogger(__name__)

WATCH_S: Final = 240.0
RESYNC_S: Final = 600.0
BACKOFF: Final = Backoff(0.2, 10.0)
ABSENT_S: Final = 30.0
"""How often a kind that the cluster does not know is asked for again."""


class Informer:
    """`run` belongs to one thread; `get`, `all` and `is_synced` may be called by any.

    Args:
        on_change: gets the new object, or the last known one when it is gone; called in the
            informer's thread.
    """

    def __init__(
        self,
        api: KubernetesApi,
        selection: Selection,
        clock: Clock,
        on_change: Callable[[Object], None],
    ) -> None:
        self._api = api
        self._selection = selection
        self._clock = clock
        self._on_change = on_change
        self._lock = threading.Lock()
        self._objects: dict[str, Object] = {}
        self._version = ""
        self._synced = threading.Event()
        self._failures = 0
        self._resynced_s = clock.monotonic_s()

    @property
    def kind(self) -> str:
        return self._selection.resource.kind

    def get(self, name: str) -> Object | None:
        with self._lock:
            return self._objects.get(name)

    def all(self) -> tuple[Object, ...]:
        with self._lock:
            return tuple(self._objects.values())

    def is_synced(self) -> bool:
        """Whether the first list is in, or the cluster has no such kind."""
        return self._synced.is_set()

    def learn(self, obj: Object) -> None:
        """Takes the answer to a write of ours: the next decision is not to act on older state."""
        with self._lock:
            known = self._objects.get(get_name(obj))
            if known is None or _is_newer(obj, known):
                self._objects[get_name(obj)] = obj

    def run(self, stop: StopFlag) -> None:
        """Follows until `stop`."""
        while not stop.is_set():
            try:
                if not self.follow(stop):
                    # A server that ends watches at once is not asked without end.
                    stop.wait(BACKOFF.first_s)
            except KubernetesFailed as error:
                stop.wait(self._after(error))

    def follow(self, stop: StopFlag) -> bool:
        """Lists where that is needed, then one watch to its end; whether it brought anything."""
        if not self._version:
            self.relist()
        has_brought = False
        for event in self._api.watch(self._selection, self._version, WATCH_S):
            self._take(event)
            self._failures, has_brought = 0, True
            if stop.is_set():
                break
        self._resync()
        return has_brought

    def _after(self, error: KubernetesFailed) -> float:
        """How long to wait after a failure."""
        if error.is_gone:
            self._version = ""
            return 0.0
        if error.is_absent and not self.all():
            self._version = ""
            self._synced.set()
            return ABSENT_S
        self._failures += 1
        if self._failures & (self._failures - 1) == 0:  # the first, second, fourth, eighth ...
            log.warning("watch interrupted", extra={"kind": self.kind, "reason": str(error)[:200]})
        return jittered(BACKOFF.delay_s(self._failures))

    def relist(self) -> None:
        """Takes the whole list anew, and tells everything, what has vanished first."""
        listing = self._api.listing(self._selection)
        fresh = {get_name(each): each for each in listing.items}
        with self._lock:
            before, self._objects = self._objects, fresh
        self._version = listing.version
        gone = [each for name, each in before.items() if name not in fresh]
        self._tell((*gone, *fresh.values()))
        self._synced.set()

    def _take(self, event: WatchEvent) -> None:
        version = str(event.object["metadata"]["resourceVersion"])
        self._version = version
        if event.kind == "BOOKMARK":
            return
        name = get_name(event.object)
        with self._lock:
            if event.kind == "DELETED":
                self._objects.pop(name, None)
            elif name not in self._objects or _is_newer(event.object, self._objects[name]):
                self._objects[name] = event.object
        self._tell((event.object,))

    def _resync(self) -> None:
        if self._clock.monotonic_s() - self._resynced_s >= RESYNC_S:
            self._resynced_s = self._clock.monotonic_s()
            self._tell(self.all())

    def _tell(self, objects: tuple[Object, ...]) -> None:
        for each in objects:
            self._on_change(each)


def _is_newer(obj: Object, known: Object) -> bool:
    """Versions of a kind grow (etcd's count); an object of another uid is newer."""
    fresh, old = obj["metadata"], known["metadata"]
    if fresh.get("uid") != old.get("uid"):
        return True
    return int(fresh["resourceVersion"]) >= int(old["resourceVersion"])
