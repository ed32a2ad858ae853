"""The time, as everything that waits or writes it down gets it."""

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Wall time for what is written down, monotonic time for waiting."""

    def now(self) -> datetime:
        """Wall-clock time, aware, UTC."""
        ...

    def monotonic_s(self) -> float:
        """Seconds that never go back; only differences mean anything."""
        ...
