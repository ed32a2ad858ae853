"""`pickspin batch`: reads the input, leaves out what an earlier run finished, sends the rest, writes what comes."""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal, Self

from functions.batch.batch_client import Target, send_all
from functions.batch.file_format import (
    Answer,
    Ask,
    Written,
    output_line,
    read_asks,
    read_written,
    remaining,
)
from functions.runtime.errors import StartupFailed


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """Successes go to `output`, failures to `errors`, which every run writes anew and tries again."""

    input: Path
    output: Path
    errors: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """How a run went: lines of the input, those an earlier run had done, and what became of the rest."""

    total: int
    skipped: int
    completed: int
    failed: int


class Run:
    """One run over a file; `prepare` before `send`."""

    def __init__(self, files: Files, target: Target, *, model: str | None) -> None:
        self._files, self._target = files, target
        self.asks: tuple[Ask, ...] = read_asks(_lines(files.input), model=model)
        self.left = remaining(self.asks, _written(files.output), _written(files.errors))

    @property
    def skipped(self) -> int:
        """Lines that an earlier run finished."""
        return len(self.asks) - len(self.left)

    def send(self, on_answer: Callable[[Answer], None]) -> Summary:
        """Sends what is left; each answer is on its file before `on_answer` hears of it."""
        return asyncio.run(self._send(on_answer))

    async def _send(self, on_answer: Callable[[Answer], None]) -> Summary:
        completed = failed = 0
        with _Results(self._files) as results:
            async for answer in send_all(self.left, self._target):
                results.write(answer)
                completed, failed = completed + answer.is_ok, failed + (not answer.is_ok)
                on_answer(answer)
        return Summary(
            total=len(self.asks), skipped=self.skipped, completed=completed, failed=failed
        )


class _Results:
    """The files that answers are appended to, flushed line by line and synced at the end."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._output = _opened(files.output, "ab")
        self._errors = _opened(files.errors, "wb")

    def write(self, answer: Answer) -> None:
        target = self._output if answer.is_ok else self._errors
        target.write(output_line(answer))
        target.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in (self._output, self._errors):
            file.flush()
            os.fsync(file.fileno())
            file.close()
        if self._files.errors.stat().st_size == 0:
            self._files.errors.unlink()


def _written(path: Path) -> Written:
    """What an earlier run left there; a torn last line is cut off."""
    if not path.exists():
        return Written(retries={}, good_bytes=0)
    written = read_written(_lines(path))
    if written.good_bytes < path.stat().st_size:
        os.truncate(path, written.good_bytes)
    return written


def _opened(path: Path, mode: Literal["ab", "wb"]) -> BinaryIO:
    try:
        return path.open(mode)
    except OSError as error:
        raise StartupFailed(f"cannot write {path}: {error.strerror}") from error


def _lines(path: Path) -> list[bytes]:
    try:
        with path.open("rb") as file:
            return file.readlines()
    except OSError as error:
        raise StartupFailed(f"cannot read {path}: {error.strerror}") from error
