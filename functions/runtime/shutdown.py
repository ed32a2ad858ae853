"""Shutdown: a flag, set by SIGTERM or SIGINT, that every loop checks; death with the parent."""

import ctypes
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, ModuleType
from typing import Final, cast

_PR_SET_PDEATHSIG: Final = 1
SWITCH_S: Final = 0.001
"""How long a thread may hold the interpreter while another waits; Python's own 5 ms is a whole hop of a request."""


STUCK_S: Final = 120.0
"""A loop that has not looked up for this long is stuck."""


class StopFlag:
    """Set once, never cleared. `install` ties it to SIGTERM and SIGINT of this process (main thread only)."""

    def __init__(self) -> None:
        # Not an Event: its lock is not reentrant, and a signal that lands while the main thread holds it would wait
        # for itself. A Condition's default lock is.
        self._condition = threading.Condition()
        self._is_set = False

    @classmethod
    def install(cls) -> "StopFlag":
        flag = cls()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, flag._handle)
        return flag

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.set()

    def set(self) -> None:
        with self._condition:
            self._is_set = True
            self._condition.notify_all()

    def is_set(self) -> bool:
        return self._is_set

    def wait(self, timeout_s: float | None = None) -> bool:
        """Waits until set, at most `timeout_s` (None: for ever); returns whether it is set."""
        with self._condition:
            return self._condition.wait_for(lambda: self._is_set, timeout_s)


class WatchedStop(StopFlag):
    """A flag of someone else's that notes when it was looked at last: a loop that lives looks at it every turn."""

    def __init__(self, stop: StopFlag) -> None:
        self._stop = stop
        self._looked_s = time.monotonic()

    def quiet_s(self) -> float:
        """How long ago it was looked at."""
        return time.monotonic() - self._looked_s

    def set(self) -> None:
        self._stop.set()

    def is_set(self) -> bool:
        self._looked_s = time.monotonic()
        return self._stop.is_set()

    def wait(self, timeout_s: float | None = None) -> bool:
        self._looked_s = time.monotonic()
        return self._stop.wait(timeout_s)


class LoopHealth:
    """How the loops of a process are: one of them died, or has not looked up for so long that it must be stuck."""

    def __init__(self) -> None:
        self._has_failed = threading.Event()
        self._flags: tuple[WatchedStop, ...] = ()

    def watch(self, stop: StopFlag, count: int) -> tuple[WatchedStop, ...]:
        """`stop` once for each of so many loops; from now on they are watched."""
        self._flags = tuple(WatchedStop(stop) for _ in range(count))
        return self._flags

    def fail(self) -> None:
        """One of them died."""
        self._has_failed.set()

    def has_failed(self) -> bool:
        return self._has_failed.is_set()

    def is_live(self) -> bool:
        """No loop has died or is stuck."""
        return not self.has_failed() and all(one.quiet_s() < STUCK_S for one in self._flags)


def die_with_parent(parent_pid: int, number: int = signal.SIGTERM) -> None:
    """Asks Linux to send `number` to this process when the thread that started it ends; elsewhere does nothing.

    Called first thing in a child. `parent_pid` is checked afterwards: had the parent already gone, the request
    would never fire.
    """
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0)
    except (OSError, AttributeError):
        return
    if os.getppid() != parent_pid:
        os.kill(os.getpid(), number)


def prefer_latency() -> None:
    """For processes whose threads hand small pieces of work to each other: switches between them sooner."""
    sys.setswitchinterval(SWITCH_S)


_COMMANDS: Final = ("httpx._main",)
"""Commands of libraries, which these read with the library where click, rich and pygments are there, as they are with
ours: a quarter of the time that a worker's imports take.
"""


@contextmanager
def speed_up_imports() -> Iterator[None]:
    """Around the imports of a process: what they make stays, and collecting in between takes a third of their time.

    Commands that libraries bring along are not there meanwhile; a library first read here stays without its own.
    """
    gc.disable()
    # None is Python's own sign for a module that cannot be had.
    modules = cast("dict[str, ModuleType | None]", sys.modules)
    absent = [name for name in _COMMANDS if name not in modules]
    modules.update(dict.fromkeys(absent))
    try:
        yield
    finally:
        for name in absent:
            del modules[name]
        gc.freeze()
        gc.enable()
