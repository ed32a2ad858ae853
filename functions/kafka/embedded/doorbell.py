"""A doorbell beside the embedded broker: who appends rings, who reads wakes and fetches.

librdkafka's mock cluster holds an empty fetch for its whole wait, so a reader must either poll all the time (a
quarter of a core each) or be late. On one machine there is a third way: after an acknowledged append one datagram
goes to every reader of the topic, over Unix sockets in a directory of the broker's own. It carries nothing and
promises nothing: a lost ring, or a record of a producer that does not ring, is found by the next regular fetch.
"""

import contextlib
import hashlib
import itertools
import os
import select
import socket
import stat
import tempfile
import time
from pathlib import Path
from typing import Final

from functions.runtime.errors import StartupFailed

_RING: Final = b"!"
_LISTED_S: Final = 0.25
"""A new reader is rung at the latest this long after it came; its own first fetches are regular ones."""
_NUMBERS: Final = itertools.count()


def bell_directory(bootstrap: str) -> Path:
    """Where the readers of one broker have their sockets; created for this user alone."""
    port = bootstrap.rsplit(":", 1)[-1]
    directory = Path(tempfile.gettempdir()) / f"pickspin-bell-{os.getuid()}-{port}"
    directory.mkdir(mode=0o700, exist_ok=True)
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise StartupFailed(f"{directory} is not a directory of this user alone: remove it")
    return directory


def _name(topic: str) -> str:
    # Hashed: the path of a Unix socket must stay below 108 bytes.
    return hashlib.sha256(topic.encode()).hexdigest()[:12]


class Bell:
    """Rings. Thread-safe: one non-blocking socket, and a listing that is replaced whole."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(0.0)
        self._listed_s = -1.0
        self._readers: dict[str, tuple[str, ...]] = {}

    def ring(self, topic: str) -> None:
        """Wakes the readers of `topic`. Never blocks, never fails."""
        for path in self._paths(_name(topic)):
            try:
                self._socket.sendto(_RING, path)
            except (ConnectionRefusedError, FileNotFoundError):
                with contextlib.suppress(OSError):
                    Path(path).unlink()
            except OSError:
                continue  # a full queue: that reader is awake already

    def close(self) -> None:
        self._socket.close()

    def _paths(self, name: str) -> tuple[str, ...]:
        now_s = time.monotonic()
        if now_s - self._listed_s > _LISTED_S:
            paths: dict[str, tuple[str, ...]] = {}
            with contextlib.suppress(OSError):
                for entry in os.scandir(self._directory):
                    topic = entry.name.split(".", 1)[0]
                    paths[topic] = (*paths.get(topic, ()), entry.path)
            self._readers, self._listed_s = paths, now_s
        return self._readers.get(name, ())


class Ear:
    """Hears the rings of some topics. Owned by one thread."""

    def __init__(self, directory: Path, topics: tuple[str, ...]) -> None:
        self._sockets: list[socket.socket] = []
        self._paths: list[Path] = []
        for topic in topics:
            path = directory / f"{_name(topic)}.{os.getpid()}.{next(_NUMBERS)}"
            listening = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            listening.settimeout(0.0)
            listening.bind(str(path))
            self._sockets.append(listening)
            self._paths.append(path)

    def wait(self, timeout_s: float) -> bool:
        """Whether it rang within `timeout_s` or since the last wait; several rings count as one."""
        ready, _, _ = select.select(self._sockets, [], [], max(0.0, timeout_s))
        for listening in ready:
            with contextlib.suppress(BlockingIOError):
                while listening.recv(len(_RING)):
                    pass
        return bool(ready)

    def close(self) -> None:
        for listening, path in zip(self._sockets, self._paths, strict=True):
            listening.close()
            with contextlib.suppress(OSError):
                path.unlink()
