"""What `pickspin up` says: changes of state, as plain lines, JSON lines, or rows under the live table."""

import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, Protocol

from events.timestamps import to_rfc3339
from functions.ports.clock import Clock

RECENT: Final = 8
Kind = Literal["stack", "process", "model"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StateChange:
    """One change of state. `detail` is for a person; `values` are what a program would want."""

    at: datetime
    kind: Kind
    name: str
    state: str
    detail: str = ""
    values: tuple[tuple[str, str | int | float | None], ...] = ()


class Announcer(Protocol):
    """Where changes go."""

    def announce(self, change: StateChange) -> None: ...


class JsonAnnouncer:
    """One JSON object a change: `pickspin up --json`."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write

    def announce(self, change: StateChange) -> None:
        line: dict[str, str | int | float | None] = {
            "at": to_rfc3339(change.at),
            "kind": change.kind,
            "name": change.name,
            "state": change.state,
            "detail": change.detail,
        }
        self._write(json.dumps(line | dict(change.values)) + "\n")


class PlainAnnouncer:
    """One line a change, for logs and pipes."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write

    def announce(self, change: StateChange) -> None:
        self._write(plain(change) + "\n")


class RecentChanges:
    """The last few changes: what the live table shows at its foot."""

    def __init__(self) -> None:
        self.lines: deque[str] = deque(maxlen=RECENT)

    def announce(self, change: StateChange) -> None:
        self.lines.append(plain(change))


class ChangeJournal:
    """Stamps changes with the clock and hands them to the announcer."""

    def __init__(self, announcer: Announcer, clock: Clock) -> None:
        self._announcer, self._clock = announcer, clock

    def write(
        self, kind: Kind, name: str, state: str, detail: str = "", **values: str | float | None
    ) -> None:
        """Announces one change as of now."""
        change = StateChange(
            at=self._clock.now(),
            kind=kind,
            name=name,
            state=state,
            detail=detail,
            values=tuple(values.items()),
        )
        self._announcer.announce(change)


def plain(change: StateChange) -> str:
    """The line of a change: local time, name, state, detail."""
    at = change.at.astimezone().strftime("%H:%M:%S")
    text = f"{at}  {change.name:<28} {change.state}"
    return f"{text}  {change.detail}" if change.detail else text
