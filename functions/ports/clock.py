"""The time: everything that waits or records an instant gets it from here."""

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Wall-clock time for records, monotonic time for waits."""

    def now(self) -> datetime:
        """Wall-clock time, aware, UTC."""
        ...

    def monotonic_s(self) -> float:
        """Seconds that never go back. Only differences have a meaning."""
        ...
