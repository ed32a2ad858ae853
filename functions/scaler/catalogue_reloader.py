"""Reads the catalogue again when its file changes (a mounted ConfigMap is replaced in place)."""

import logging
from collections.abc import Callable
from pathlib import Path

from functions.ports.clock import Clock
from functions.runtime.errors import StartupFailed
from router_model.catalogue.model import Catalogue

log = logging.getLogger(__name__)


class CatalogueReloader:
    """Called by one thread.

    A file that is refused leaves the last catalogue in force, and is said once.

    Args:
        load: reads and checks it; raises `StartupFailed`.
        fingerprint: cheap, equal as long as the content is.
    """

    def __init__(
        self,
        load: Callable[[], Catalogue],
        fingerprint: Callable[[], object],
        clock: Clock,
        *,
        every_s: float,
    ) -> None:
        self._load, self._fingerprint = load, fingerprint
        self._clock, self._every_s = clock, every_s
        self._taken = fingerprint()
        self._catalogue = load()
        self._looked_s = clock.monotonic_s()

    def __call__(self) -> Catalogue:
        """The same object until the content changes."""
        now_s = self._clock.monotonic_s()
        if now_s - self._looked_s < self._every_s:
            return self._catalogue
        self._looked_s = now_s
        fingerprint = self._fingerprint()
        if fingerprint != self._taken:
            self._taken = fingerprint
            self._take()
        return self._catalogue

    def _take(self) -> None:
        try:
            self._catalogue = self._load()
        except StartupFailed as error:
            log.error("the new catalogue is not taken: %s", error)  # noqa: TRY400 - no trace
            return
        log.info("catalogue changed", extra={"version": self._catalogue.version})


def read_content(path: str) -> bytes | None:
    """The bytes of a file; None while it cannot be read, or if `path` is empty."""
    try:
        return Path(path).read_bytes() if path else None
    except OSError:
        return None
