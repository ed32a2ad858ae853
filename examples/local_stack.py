"""Runs `pickspin up` as a child and follows its JSON lines: for the demo, the benchmarks and the process tests."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

START_S = 90.0
STOP_S = 40.0


def free_port() -> int:
    """A loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class LocalStack:
    """One running stack. `changes` are the JSON lines so far; `url` is the ingress, `bootstrap` the broker."""

    def __init__(
        self, arguments: Sequence[str], environ: Mapping[str, str], data_dir: Path
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.data_dir = data_dir
        self.changes: list[dict[str, Any]] = []
        self._seen = threading.Condition()
        clean = {name: value for name, value in os.environ.items() if "PICKSPIN" not in name}
        self._errors = data_dir.joinpath("up.stderr").open("w+b")
        self.started_s = time.monotonic()
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "functions", "up", "--json"),
                *("--port", str(self.port), "--data-dir", str(data_dir), *arguments),
            ],
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=clean | dict(environ),
            cwd=Path(__file__).parent.parent,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True)
        self._reader.start()

    def _read(self, lines: IO[bytes]) -> None:
        for line in lines:
            with self._seen:
                self.changes.append(json.loads(line) | {"seen_s": time.monotonic()})
                self._seen.notify_all()
        with self._seen:
            self._seen.notify_all()

    def await_change(
        self, wanted: Callable[[dict[str, Any]], bool], timeout_s: float, *, after: int = 0
    ) -> dict[str, Any]:
        """The first change from index `after` on that `wanted` accepts.

        Raises:
            TimeoutError: none within `timeout_s`, or the stack ended.
        """
        deadline = time.monotonic() + timeout_s
        index = after
        with self._seen:
            while True:
                while index < len(self.changes):
                    if wanted(self.changes[index]):
                        return self.changes[index]
                    index += 1
                left = deadline - time.monotonic()
                if left <= 0 or (self.process.poll() is not None and not self._reader.is_alive()):
                    raise TimeoutError(f"not seen: {self.describe()}")
                self._seen.wait(min(left, 0.5))

    def await_ready(self, timeout_s: float = START_S) -> float:
        """Seconds from start to ready, as seen from here."""
        ready = self.await_change(
            lambda change: change["name"] == "pickspin" and change["state"] == "ready", timeout_s
        )
        return float(ready["seen_s"]) - self.started_s

    @property
    def bootstrap(self) -> str:
        """The broker's address as of its last start."""
        return str([c["bootstrap"] for c in self.changes if c.get("bootstrap")][-1])

    def pid(self, name: str) -> int:
        """The pid of a kept process (`ingress`, `router`, ...) or of the newest worker of a service."""
        found = [
            change["pid"]
            for change in self.changes
            if change["name"].split("/")[0] == name and change.get("pid")
        ]
        return int(found[-1])

    def descendants(self) -> list[int]:
        """Pids of every process below the supervisor now."""
        return sorted(_descendants(self.process.pid))

    def describe(self) -> str:
        """The last changes and errors, for a failed expectation."""
        self._errors.seek(0)
        lines = [f"{c['name']} {c['state']} {c['detail']}" for c in self.changes[-15:]]
        return "\n".join([*lines, self._errors.read().decode(errors="replace")[-2000:]])

    def stop(self, number: int = signal.SIGINT) -> int:
        """Sends the signal and waits; returns the exit status. Kills what has not ended in time."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            status = self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            for pid in (*self.descendants(), self.process.pid):
                os.kill(pid, signal.SIGKILL)
            status = self.process.wait(5)
        self._reader.join(5)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._errors.close()
        return status


def _descendants(pid: int) -> Iterator[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = entry.joinpath("stat").read_text()
            except OSError:
                continue
            children.setdefault(int(stat.rsplit(")", 1)[1].split()[1]), []).append(int(entry.name))
    todo = list(children.get(pid, []))
    while todo:
        found = todo.pop()
        yield found
        todo.extend(children.get(found, []))


@contextmanager
def local_stack(
    *arguments: str, environ: Mapping[str, str] | None = None, data_dir: Path | None = None
) -> Iterator[LocalStack]:
    """A ready stack in a data directory of its own (None: a temporary one), stopped at the end."""
    with tempfile.TemporaryDirectory(prefix="pickspin-") as temporary:
        stack = LocalStack(arguments, environ or {}, data_dir or Path(temporary))
        try:
            stack.await_ready()
            yield stack
        finally:
            stack.stop()
