"""What is deleted: rows after the retention, and bytes when nothing has them any more.

Bytes are named by their content, so that several rows, of several tenants too, may share them: they are not deleted
with a row, but swept when no row names them. Bytes that were put again a moment ago are left: their row may be on its
way. Bodies go only after a request that had them was forgotten: what no row has named yet may still be read.
"""

import logging
from datetime import timedelta
from typing import Final

from functions.ports.blobs import BlobStore
from functions.ports.clock import Clock
from functions.ports.store import Store

PURGE_S: Final = 60.0
SWEEP_S: Final = 60.0
MOST_BODIES: Final = 2000
"""Bodies looked at in one sweep."""
YOUNG_S: Final = 600.0
"""Bytes are left this long after they were last put: far longer than from there to their row."""

log = logging.getLogger(__name__)


class BlobPurger:
    """Call `tick` as often as the reaper's, from the same thread."""

    def __init__(self, store: Store, blobs: BlobStore, clock: Clock) -> None:
        self._store = store
        self._blobs = blobs
        self._clock = clock
        self._done_s = clock.monotonic_s()

    def tick(self) -> int:
        """Sweeps at most once in `SWEEP_S`; returns how many bytes' references lead nowhere now."""
        if self._clock.monotonic_s() - self._done_s < SWEEP_S:
            return 0
        self._done_s = self._clock.monotonic_s()
        for file_id in self._store.expired_files(self._clock.now()):
            # What an open batch reads stays until that has ended.
            self._store.delete_file(file_id)
        gone = self._sweep_files() + self._sweep_bodies()
        if gone:
            log.info("bytes that nothing has any more are gone", extra={"count": gone})
        return gone

    def _sweep_files(self) -> int:
        old = list(self._blobs.files(unused_s=YOUNG_S))
        unused = set(old) - self._store.refs_in_use(old)
        return sum(self._blobs.delete(ref, unused_s=YOUNG_S) for ref in unused)

    def _sweep_bodies(self) -> int:
        unused = self._store.unused_bodies(MOST_BODIES)
        gone = [ref for ref in unused if self._blobs.delete(ref, unused_s=YOUNG_S)]
        self._store.forget_bodies(gone)
        return len(gone)


class RowPurger:
    """Deletes what is older than the retention, now and then."""

    def __init__(self, store: Store, clock: Clock, retention: timedelta) -> None:
        self._store = store
        self._clock = clock
        self._retention = retention
        self._done_s = clock.monotonic_s()

    def tick(self) -> int:
        """Purges at most once in `PURGE_S`; returns how many requests are gone."""
        if self._clock.monotonic_s() - self._done_s < PURGE_S:
            return 0
        self._done_s = self._clock.monotonic_s()
        return self._store.purge(self._clock.now() - self._retention)
