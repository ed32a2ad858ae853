"""How far a training is: bars on a terminal, else a line now and then. All of it goes to standard error."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Protocol, Self

import typer

LINE_EVERY_S: Final = 10.0


class TrainingProgress(Protocol):
    """Hears `share` in [0, 1] of the named stage; a new name ends the one before it."""

    def __call__(self, stage: str, share: float, note: str = "") -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def open_progress() -> TrainingProgress:
    """Bars where standard error is a terminal, else lines."""
    if sys.stderr.isatty():
        return ProgressBars()
    return ProgressLines(lambda line: typer.echo(line, err=True), time.monotonic)


class ProgressBars:
    """A bar a stage, with the time that is left."""

    def __init__(self) -> None:
        from rich import progress  # noqa: PLC0415 - not needed to list the verbs
        from rich.console import Console  # noqa: PLC0415

        self._bars: Any = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.TaskProgressColumn(),
            progress.TimeElapsedColumn(),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.fields[note]}"),
            console=Console(stderr=True),
        )
        self._stage: tuple[str, Any] | None = None

    def __call__(self, stage: str, share: float, note: str = "") -> None:
        if self._stage is None or self._stage[0] != stage:
            self._end()
            self._stage = (stage, self._bars.add_task(stage, total=1.0, note=note))
        self._bars.update(self._stage[1], completed=share, note=note)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._end()
        self._bars.stop()

    def _end(self) -> None:
        if self._stage is not None:
            self._bars.update(self._stage[1], completed=1.0)


class ProgressLines:
    """A line when a stage begins and ends, and one every `LINE_EVERY_S` between. `clock` gives seconds."""

    def __init__(self, write: Callable[[str], object], clock: Callable[[], float]) -> None:
        self._write = write
        self._clock = clock
        self._stage: str | None = None
        self._begun = self._said = 0.0

    def __call__(self, stage: str, share: float, note: str = "") -> None:
        now = self._clock()
        if stage != self._stage:
            self._end(now)
            self._stage, self._begun, self._said = stage, now, now
            self._write(stage)
        elif now - self._said >= LINE_EVERY_S and 0 < share < 1:
            self._said = now
            taken = now - self._begun
            left = taken / share - taken
            self._write(f"{stage}: {share:.0%} in {taken:.0f} s, {left:.0f} s left {note}".rstrip())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._end(self._clock())

    def _end(self, now: float) -> None:
        if self._stage is not None:
            self._write(f"{self._stage}: done in {now - self._begun:.1f} s")
