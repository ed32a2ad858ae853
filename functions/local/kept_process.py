"""Keeps one process alive: starts it, and starts it again with a growing pause whenever it ends unasked."""

import asyncio
from pathlib import Path
from typing import Final, Literal

from functions.local.child_process import Child, ChildSpec, read_last_line
from functions.local.progress_output import ChangeJournal
from functions.local.worker_pool import describe_exit
from functions.ports.clock import Clock
from functions.runtime.backoff import Backoff

STABLE_S: Final = 20.0
"""A process that lived this long starts its next life without a longer pause."""
RESTARTS: Final = Backoff(0.2, 10.0)
KeeperState = Literal["waiting", "running", "restarting", "stopping", "stopped"]


class KeptProcess:
    """One kept process. `run` is its task; `stop` ends both."""

    def __init__(self, spec: ChildSpec, clock: Clock, journal: ChangeJournal) -> None:
        self.name = spec.name
        self.state: KeeperState = "waiting"
        self.restarts = 0
        self.child: Child | None = None
        self._spec, self._clock, self._journal = spec, clock, journal
        self.last_words = ""
        """Of the process that ended last."""
        self._stop_asked = asyncio.Event()
        self._failures = 0

    @property
    def pid(self) -> int | None:
        """Of the running process; None between two."""
        return self.child.pid if self.child is not None and self.child.is_running else None

    @property
    def log(self) -> Path:
        """What the process writes."""
        return self._spec.log

    async def run(self) -> None:
        """Until `stop`: starts, waits, announces why it ended, pauses, starts again."""
        while not self._stop_asked.is_set():
            began_s = self._clock.monotonic_s()
            try:
                self.child = await Child.start(self._spec)
            except OSError as error:
                self.last_words = str(error)
                self._note_failure(str(error), lived_s=0.0)
                await self._pause(RESTARTS.delay_s(self._failures + 1))
                continue
            if self._stop_asked.is_set():
                self.child.kill()
                break
            self._enter("running", pid=self.child.pid)
            status = await self.child.exited
            if self._stop_asked.is_set():
                break
            self.last_words = read_last_line(self._spec.log) or describe_exit(status)
            why = f"{describe_exit(status)}: {self.last_words} ({self._spec.log})"
            self._note_failure(why, lived_s=self._clock.monotonic_s() - began_s)
            await self._pause(RESTARTS.delay_s(self._failures + 1))

    async def stop(self) -> None:
        """Drains the process, or kills it when it takes longer than its spec allows."""
        self._stop_asked.set()
        if self.child is not None and self.child.is_running:
            self._enter("stopping")
            await self.child.stop()
        self._enter("stopped")

    def kill(self) -> None:
        """Ends the process at once."""
        self._stop_asked.set()
        if self.child is not None:
            self.child.kill()

    def _note_failure(self, why: str, *, lived_s: float) -> None:
        self._failures = 0 if lived_s >= STABLE_S else self._failures + 1
        self.restarts += 1
        self._enter("restarting", why, restarts=self.restarts)

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._stop_asked.wait(), seconds)
        except TimeoutError:
            return

    def _enter(self, state: KeeperState, detail: str = "", **values: float) -> None:
        self.state = state
        self._journal.write("process", self.name, state, detail, **values)
