"""One child process of the supervisor: start, watch, end; its log file; its memory. Spawn from the main thread only."""

import asyncio
import asyncio.subprocess
import json
import os
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from functions.storage.private_files import OTHERS, make_private_file

LOG_BYTES: Final = 4 * 1024 * 1024
"""A log larger than this is moved to `<name>.log.1`, replacing the one there."""
TAIL_BYTES: Final = 4096
LINE_CHARS: Final = 300
KILL_WAIT_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildSpec:
    """What to start. `name` is unique in the supervisor and names the log file."""

    name: str
    command: tuple[str, ...]
    environ: Mapping[str, str]
    logs: Path
    stop_s: float
    """How long it may drain after SIGTERM before it is killed."""

    @property
    def log(self) -> Path:
        return self.logs / f"{self.name}.log"


def process_command(verb: str) -> tuple[str, ...]:
    """The command of one of our own processes, bound to this process's life."""
    return (sys.executable, "-m", "functions", verb, "--parent", str(os.getpid()))


class Child:
    """A running process. Built by `start`; `exited` is a task that ends with its exit status."""

    def __init__(self, spec: ChildSpec, process: asyncio.subprocess.Process) -> None:
        self.spec = spec
        self.pid = process.pid
        self.is_stopping = False
        self._process = process
        self.exited: asyncio.Task[int] = asyncio.create_task(self._wait())

    @classmethod
    async def start(cls, spec: ChildSpec) -> "Child":
        """Starts the process in a session of its own, so that a ctrl-C in the terminal reaches the supervisor alone.

        What it writes is its owner's alone, like its log.

        Raises:
            OSError: the program cannot be started.
        """
        trim_log(spec.log)
        with make_private_file(spec.log).open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *spec.command,
                env=dict(spec.environ),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                umask=OTHERS,
            )
        return cls(spec, process)

    @property
    def is_running(self) -> bool:
        return self._process.returncode is None

    def terminate(self) -> None:
        """Asks it to drain and end."""
        self.is_stopping = True
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it and everything it started in its session, at once."""
        self.is_stopping = True
        self._signal_group(signal.SIGKILL)

    async def stop(self) -> int:
        """Drains for at most the spec's `stop_s`, then kills; returns the exit status."""
        self.terminate()
        done, _ = await asyncio.wait({self.exited}, timeout=self.spec.stop_s)
        if not done:
            self.kill()
            await asyncio.wait({self.exited}, timeout=KILL_WAIT_S)
        return self._process.returncode if self._process.returncode is not None else -signal.SIGKILL

    async def _wait(self) -> int:
        status = await self._process.wait()
        # What a dead child left behind (a model server, a gunicorn worker) goes with it.
        self._signal_group(signal.SIGKILL)
        return status

    def _signal(self, number: int) -> None:
        if self._process.returncode is None:
            self._process.send_signal(number)

    def _signal_group(self, number: int) -> None:
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            return


def trim_log(path: Path) -> None:
    """Moves a log that has grown over LOG_BYTES aside; works while a child appends to it."""
    try:
        if path.stat().st_size > LOG_BYTES:
            shutil.copyfile(path, make_private_file(path.with_name(f"{path.name}.1")))
            os.truncate(path, 0)
    except FileNotFoundError:
        return


def read_last_line(path: Path) -> str:
    """The last line of a log, for a person who wants to know why a process ended; empty when there is none."""
    try:
        with path.open("rb") as log:
            log.seek(0, os.SEEK_END)
            log.seek(max(0, log.tell() - TAIL_BYTES))
            lines = log.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return _extract_message(last)[:LINE_CHARS]


def _extract_message(line: str) -> str:
    """What a line of our own processes' logs says, without the rest of its JSON; any other line as it is."""
    try:
        entry = json.loads(line)
        said = [entry[name] for name in ("message", "reason") if entry.get(name)]
    except (ValueError, AttributeError, TypeError):
        return line
    return ": ".join(map(str, said)) or line


def resident_bytes(pid: int) -> int:
    """Resident memory of one process; 0 where it is gone or /proc is not there."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def children_by_parent() -> Mapping[int, Sequence[int]]:
    """Every process of the machine under the one that started it; empty where /proc is not there."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # The name in parentheses may hold anything.
            parent = int(path.read_text("utf-8", "replace").rpartition(")")[2].split()[1])
        except (OSError, IndexError, ValueError):
            continue
        children.setdefault(parent, []).append(int(path.parent.name))
    return children


def tree_bytes(pid: int, children: Mapping[int, Sequence[int]]) -> int:
    """Resident memory of a process and of everything that it started; pages that several share count for each."""
    return resident_bytes(pid) + sum(tree_bytes(each, children) for each in children.get(pid, ()))
