"""Failed starts of a service in a row, in a file that survives the process."""

import json
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from events.errors import EventRejected
from events.timestamps import from_rfc3339, to_rfc3339

FORGET_AFTER: Final = timedelta(minutes=15)
"""Later than the longest pause between two starts: whoever starts then has mended something, or is new here."""


@dataclass(frozen=True, slots=True)
class FailedStarts:
    """Written at a failure and at the first moment of being ready; what cannot be written counts as nothing."""

    path: Path

    def count(self, now: datetime) -> int:
        """Failed starts in a row, as far as they are not forgotten."""
        try:
            kept = json.loads(self.path.read_text(encoding="utf-8"))
            count, at = kept["failures"], from_rfc3339(kept["at"])
        except (OSError, ValueError, KeyError, TypeError, EventRejected):
            return 0
        return count if type(count) is int and count > 0 and now - at < FORGET_AFTER else 0

    def add(self, now: datetime) -> int:
        """One more; returns how many there are."""
        count = self.count(now) + 1
        self._write({"failures": count, "at": to_rfc3339(now)})
        return count

    def clear(self) -> None:
        """A start has succeeded."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)

    def _write(self, kept: dict[str, object]) -> None:
        fresh = self.path.with_suffix(".new")
        with suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            fresh.write_text(json.dumps(kept), encoding="utf-8")
            fresh.replace(self.path)
