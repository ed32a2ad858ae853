"""Doubles of the local stack: a journal that remembers, and children that are tiny programs."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from functions.local.child_process import ChildSpec
from functions.local.progress_output import ChangeJournal, StateChange
from functions.runtime.system_clock import SystemClock


class Heard:
    """An announcer that remembers."""

    def __init__(self) -> None:
        self.changes: list[StateChange] = []

    def announce(self, change: StateChange) -> None:
        self.changes.append(change)

    def states_of(self, name: str) -> list[str]:
        return [change.state for change in self.changes if change.name == name]


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def journal(heard: Heard) -> ChangeJournal:
    return ChangeJournal(heard, SystemClock())


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., ChildSpec]:
    """A child that runs the Python text given: `program("print(1)", stop_s=1.0)`."""

    def spec(text: str, *, stop_s: float = 5.0) -> ChildSpec:
        return ChildSpec(
            name="child",
            command=(sys.executable, "-S", "-c", text),
            environ=dict(os.environ),
            logs=tmp_path,
            stop_s=stop_s,
        )

    return spec
