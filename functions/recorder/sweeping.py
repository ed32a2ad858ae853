"""The bytes of files go when no file has them any more.

Bytes are named by their content, so that several files, of several tenants too, may share them: they are not deleted
with a row, but swept when no row names them. Bytes that were put or asked for again a moment ago are left: their row
may be on its way.
"""

import logging
from typing import Final

from functions.ports import BlobStore, Clock
from functions.store import BatchStore

SWEEP_S: Final = 60.0
YOUNG_S: Final = 600.0
"""Bytes are left this long after they were last put: far longer than from there to their row."""

log = logging.getLogger(__name__)


class Sweeper:
    """Call `tick` as often as the reaper's, from the same thread."""

    def __init__(self, store: BatchStore, blobs: BlobStore, clock: Clock) -> None:
        self._store = store
        self._blobs = blobs
        self._clock = clock
        self._done_s = clock.monotonic_s()

    def tick(self) -> int:
        """Sweeps at most once in `SWEEP_S`; returns how many files' bytes are gone."""
        if self._clock.monotonic_s() - self._done_s < SWEEP_S:
            return 0
        self._done_s = self._clock.monotonic_s()
        old = list(self._blobs.files(unused_s=YOUNG_S))
        unused = set(old) - self._store.refs_in_use(old)
        gone = sum(self._blobs.delete(ref, unused_s=YOUNG_S) for ref in unused)
        if gone:
            log.info("bytes of deleted files are gone", extra={"count": gone})
        return gone
