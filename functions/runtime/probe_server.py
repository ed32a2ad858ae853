"""/healthz, /readyz and /metrics of processes that serve nothing else over HTTP.

They are answered on the process's own event loop, so that they tell the truth.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, Final

from prometheus_client import CollectorRegistry, generate_latest

from functions.runtime.errors import StartupFailed
from functions.runtime.settings import ProbeSettings

_READ_S: Final = 5.0
_HOLD_S: Final = 0.8
"""Less than the second that a probe waits by default."""
_LOOK_S: Final = 0.02
_MAX_HEAD: Final = 16 * 1024
_EARLIER: Final = {b"/live": b"/healthz", b"/ready": b"/readyz", b"/ready/wait": b"/readyz/wait"}
"""What earlier charts ask for: their pods stay as they are while a release goes on."""


class ProbeServer:
    """Answers GET only. `/readyz/wait` is held for a moment until it is so: Kubernetes asks once a second at most, and
    would otherwise learn of a start that takes one second after two.

    Args:
        is_ready: a request can be served now.
        is_live: nothing is wrong that a restart would cure.
    """

    def __init__(
        self,
        *,
        is_ready: Callable[[], bool],
        is_live: Callable[[], bool],
        registry: CollectorRegistry,
    ) -> None:
        self._is_ready = is_ready
        self._is_live = is_live
        self._registry = registry
        self._server: asyncio.Server | None = None

    async def start(self, host: str, port: int, listener: socket.socket | None = None) -> int:
        """Listens and returns the port (`port` 0: one that the system chose); with a `listener`, on that one."""
        where: dict[str, Any] = (
            {"host": host, "port": port} if listener is None else {"sock": listener}
        )
        self._server = await asyncio.start_server(self._serve, limit=_MAX_HEAD, **where)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(
            OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError
        ):
            async with asyncio.timeout(_READ_S):
                head = await reader.readuntil(b"\r\n\r\n")
                method, _, rest = head.partition(b" ")
                path = rest.partition(b" ")[0].partition(b"?")[0]
                path = _EARLIER.get(path, path)
                if path == b"/readyz/wait":
                    await self._hold()
                    path = b"/readyz"
                status, kind, body = self.answer(method, path)
                writer.write(
                    f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\n"
                    f"content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode()
                    + body
                )
                await writer.drain()
        writer.close()

    async def _hold(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_HOLD_S):
                while not self._is_ready():  # noqa: ASYNC110 - what makes it so is spread over three threads
                    await asyncio.sleep(_LOOK_S)

    def answer(self, method: bytes, path: bytes) -> tuple[str, str, bytes]:
        """Status line, content type and body of one probe."""
        if method != b"GET":
            return "405 Method Not Allowed", "text/plain", b"GET only\n"
        if path == b"/metrics":
            return "200 OK", "text/plain; version=0.0.4", generate_latest(self._registry)
        if path not in {b"/healthz", b"/readyz"}:
            return "404 Not Found", "text/plain", b"/healthz, /readyz, /readyz/wait or /metrics\n"
        is_fine = self._is_ready() if path == b"/readyz" else self._is_live()
        return (
            ("200 OK", "text/plain", b"ok\n")
            if is_fine
            else ("503 Service Unavailable", "text/plain", b"not now\n")
        )


@contextlib.contextmanager
def probed(server: ProbeServer, settings: ProbeSettings) -> Iterator[int | None]:
    """While inside, `server` answers from a thread and an event loop of its own.

    For processes that have no event loop for it. Gives the port; None: the settings want no probes.

    Raises:
        StartupFailed: the port is taken.
    """
    host, wanted = settings.host, settings.port
    if wanted is None:
        yield None
        return
    opened: Future[int] = Future()
    loop, ending = asyncio.new_event_loop(), asyncio.Event()

    async def serve() -> None:
        try:
            opened.set_result(await server.start(host, wanted))
        except OSError as error:
            opened.set_exception(error)
            return
        await ending.wait()
        await server.close()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(serve())

    thread = threading.Thread(target=run, name="probes", daemon=True)
    thread.start()
    try:
        port = opened.result()
    except OSError as error:
        thread.join()
        where = f"{host}:{wanted}"
        raise StartupFailed(f"PICKSPIN_PROBES_PORT: cannot listen on {where}: {error}") from error
    try:
        yield port
    finally:
        loop.call_soon_threadsafe(ending.set)
        thread.join()
