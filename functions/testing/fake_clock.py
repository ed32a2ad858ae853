"""A clock that tests move by hand."""

from datetime import UTC, datetime, timedelta


class FakeClock:
    """Stands still until `advance` is called; wall and monotonic time move together."""

    def __init__(self, start: datetime = datetime(2026, 1, 1, tzinfo=UTC)) -> None:
        self._now = start
        self._monotonic_s = 1000.0

    def now(self) -> datetime:
        return self._now

    def monotonic_s(self) -> float:
        return self._monotonic_s

    def advance(self, seconds: float) -> None:
        """Moves both times forward by `seconds`."""
        self._now += timedelta(seconds=seconds)
        self._monotonic_s += seconds
