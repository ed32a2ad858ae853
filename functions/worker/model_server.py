"""The model server beside the worker: a child that dies with it, or one reached by URL."""

import asyncio
import asyncio.subprocess
import contextlib
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from events.codecs import json_codec
from events.openai.operations import OPERATIONS
from events.payloads import ServerInfo
from functions.backends import backend_kinds, model_weights
from functions.backends.backend_kinds import BackendRow, SleepLevel, Step
from functions.backends.server_arguments import (
    Place,
    build_arguments,
    build_environment,
    check_local_arguments,
)
from functions.backends.server_info import unknown_name
from functions.runtime.backoff import Backoff
from functions.runtime.errors import StartupFailed
from functions.runtime.process_environment import read_backend_key, server_environ
from functions.worker import backend_errors, backend_response
from functions.worker.backend_errors import BadReply, CallFailed
from router_model.catalogue.model import Model, Service

_LINE_CHARS: Final = 300
_WORDS_S: Final = 1.0
"""How long the last words of an ended server are waited for."""
_REFUSED: Final = frozenset({401, 403, 404, 405})
"""What a server that is loading does not answer."""
_UNPRINTABLE: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x1f\x7f-\x9f]+")
_POLLS: Final = Backoff(0.05, 0.5, factor=1.1)
_PROBE_S: Final = 10.0
_STOP_S: Final = 3.0
_SLEEP_STEP_S: Final = 120.0
"""Weights of hundreds of gigabytes are moved or read again in one of these steps."""
_REPLY_BYTES: Final = 1024 * 1024
_READ_BYTES: Final = 64 * 1024
_STDERR: Final = 2


@dataclass(frozen=True, slots=True)
class ServerCommand:
    """How a local model server is started: its program and flags, without port and parent."""

    module: str
    flags: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """How a server is started, beside what the catalogue says. `python`: interpreter that has it; empty: ours.

    `unreachable_s`: a remote one that refuses us for this long at a start is not there; 0: it may be starting.
    """

    python: str = ""
    can_sleep: bool = False
    unreachable_s: float = 0.0
    hidden: frozenset[str] = frozenset()
    """Variables that are not for a local server: keys of others."""


def build_command(
    service: Service, model: Model, path: str | None, options: "ServerOptions | None" = None
) -> ServerCommand:
    """The command of a local service. Pure.

    `path` is the weights' file or directory (None for a simulated model). Catalogue `args` become flags: `n_ctx: 512`
    is `--n-ctx 512`, true is a bare flag, false is left out.

    Raises:
        StartupFailed: the backend kind is not one that this machine can start.
    """
    options = options or ServerOptions()
    kind = service.backend.kind
    row = backend_kinds.TABLE[kind]
    if row.program is None:
        raise StartupFailed(
            f"service {service.slug}: a {kind} server is not started here; "
            "give its address as weights.url of the model"
        )
    if kind == "vllm":
        place = Place(path=path or model.id, port=None, can_sleep=options.can_sleep)
        python = ("--python", options.python) if options.python else ()
        return ServerCommand(
            row.program,
            python + build_arguments(service, model, "", place),
            build_environment(service, place),
        )
    flags: dict[str, str | int | float | bool] = {"model": path or model.id}
    if kind == "llamacpp":
        check_local_arguments(service)
        flags |= {"context": model.context_length, "parallel": service.concurrency}
    # The weights are the model's; what the server would call it (`args.model`) only a pod's or a made-up one has.
    flags |= {
        name: value
        for name, value in service.backend.args.items()
        if kind == "fake" or name != "model"
    }
    return ServerCommand(row.program, tuple(_flags(flags)))


def _flags(options: Mapping[str, str | int | float | bool]) -> list[str]:
    flags: list[str] = []
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        if value is True:
            flags.append(flag)
        elif value is not False:
            flags += [flag, str(value)]
    return flags


class ModelServer:
    """One model server. `exited` completes when a local one ends by itself; a remote one has none.

    `absent`: why there is no server at all: whoever waits for it is told so at once.
    """

    def __init__(
        self,
        root: str,
        row: BackendRow,
        process: Any = None,
        *,
        unreachable_s: float = 0.0,
        absent: str | None = None,
    ) -> None:
        self.root = root
        self.row = row
        self.key: str | None = None
        """What a remote server wants to see before it answers."""
        self.entries: Sequence[Mapping[str, Any]] = ()
        """What it lists under `/v1/models`, once it was asked."""
        self.info: ServerInfo | None = None
        """What it says of itself, once it has warmed up."""
        self._unreachable_s = unreachable_s
        self._absent = absent
        self._process: asyncio.subprocess.Process | None = process
        self._last_line = ""
        self._listening = (
            None if process is None else asyncio.create_task(self._listen(process.stderr))
        )
        self.exited: asyncio.Task[int] | None = (
            None if process is None else asyncio.create_task(process.wait())
        )

    @classmethod
    def without(cls, service: Service, why: str) -> "ModelServer":
        """A stand-in for a server that could not be started."""
        return cls("http://127.0.0.1:9", backend_kinds.TABLE[service.backend.kind], absent=why)

    @classmethod
    async def start(
        cls, service: Service, model: Model, data_dir: Path, options: ServerOptions | None = None
    ) -> "ModelServer":
        """Starts a local server on a loopback port of its own, or names the remote one.

        Must run in the main thread: the kernel ties the child to the thread that starts it.

        Raises:
            StartupFailed: weights missing or wrong, no key for a remote one, or a kind that cannot be started here.
        """
        row = backend_kinds.TABLE[service.backend.kind]
        if model.weights.url is not None:
            unreachable_s = 0.0 if options is None else options.unreachable_s
            server = cls(
                backend_kinds.find_server_root(model.weights.url), row, unreachable_s=unreachable_s
            )
            if service.backend.key_env is not None:
                server.key = read_backend_key(service.backend.key_env)
            return server
        path: str | None = None
        if service.backend.kind != "fake":
            path = str(
                await asyncio.to_thread(model_weights.locate, model.weights, data_dir, row.loads)
            )
        command = build_command(service, model, path, options)
        port = _free_port()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            command.module,
            *command.flags,
            "--port",
            str(port),
            "--parent",
            str(os.getpid()),
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env=server_environ(command.environment, hidden=options.hidden if options else ()),
            start_new_session=True,  # a ctrl-C in the terminal lets the worker drain first
        )
        return cls(f"http://127.0.0.1:{port}", row, process)

    @property
    def is_running(self) -> bool:
        return self._process is None or self._process.returncode is None

    async def wait_until_healthy(self, http: httpx.AsyncClient, timeout_s: float) -> None:
        """Returns when the health path answers 200.

        Raises:
            StartupFailed: not within `timeout_s`, or the server ended, or it is not there.
        """
        if self._absent is not None:
            raise StartupFailed(self._absent)
        deadline_s = time.monotonic() + timeout_s
        looks = 0
        refused_since_s: float | None = None
        while time.monotonic() < deadline_s:
            if not self.is_running:
                raise StartupFailed(await self._last_words())
            is_healthy, refusal = await self._look(http)
            if is_healthy:
                return
            now_s = time.monotonic()
            refused_since_s = None if refusal is None else refused_since_s or now_s
            if refused_since_s is not None and self._is_gone(now_s - refused_since_s):
                raise StartupFailed(f"the model server cannot be reached: {refusal}")
            looks += 1
            await asyncio.sleep(_POLLS.delay_s(looks))
        raise StartupFailed(f"the model server is not healthy after {timeout_s:.0f} s")

    async def is_healthy(self, http: httpx.AsyncClient) -> bool:
        """Whether the health path answers 200 now."""
        return (await self._look(http))[0]

    async def _look(self, http: httpx.AsyncClient) -> tuple[bool, str | None]:
        """Whether it is healthy now, and, where it is not there or wants nothing of us, in which words."""
        try:
            response = await http.get(self.row.health_path, timeout=_PROBE_S)
        except httpx.ConnectError as error:
            return False, _connect_words(error)
        except httpx.HTTPError:
            return False, None
        status = response.status_code
        refusal = f"it answers {status} to the gateway" if status in _REFUSED else None
        return status == 200, refusal

    def _is_gone(self, refused_s: float) -> bool:
        """Whether a server that has refused us for so long is not there. A local one ends instead."""
        return self._process is None and 0 < self._unreachable_s <= refused_s

    async def _last_words(self) -> str:
        """Why a local server ended, in its own last sentence where it had one."""
        if self._listening is not None:
            await asyncio.wait({self._listening}, timeout=_WORDS_S)
        return f"the model server ended while it was starting: {self._last_line or 'see its log'}"

    async def _listen(self, stderr: asyncio.StreamReader) -> None:
        """Passes on what the server writes to its standard error, and keeps the last line of it."""
        rest = b""
        while part := await stderr.read(_READ_BYTES):
            with contextlib.suppress(OSError):
                os.write(_STDERR, part)
            *lines, rest = (rest + part).split(b"\n")
            rest = rest[-_READ_BYTES:]
            for line in (*lines, rest):
                self._last_line = _clean_line(line) or self._last_line

    async def generate_once(
        self, http: httpx.AsyncClient, model: Model, name: str, timeout_s: float
    ) -> None:
        """One real call: the server can do what it is there for.

        Raises:
            StartupFailed: it cannot, or not in time.
        """
        operation, body = backend_kinds.warm_up(model, name)
        request = http.build_request(
            "POST",
            OPERATIONS[operation].path,
            content=json_codec.dumps(body),
            headers={"content-type": "application/json", "accept-encoding": "identity"},
            timeout=timeout_s,
        )
        try:
            async with asyncio.timeout(timeout_s):
                status, raw = await fetch(http, request)
            reply = backend_response.parse(raw) if status == 200 else {}
            if reply.get("choices") or reply.get("data"):
                return
            if status == 404 and self.entries:
                raise StartupFailed(unknown_name(name, self.entries))
            reason = f"status {status}"
        except (httpx.HTTPError, BadReply, TimeoutError) as error:
            reason = type(error).__name__
        raise StartupFailed(f"the model server did not answer the warm-up call ({reason})")

    async def gauges(self, http: httpx.AsyncClient) -> Mapping[str, float]:
        """What it says of itself now, as `running`, `waiting` and `cache`, each where it does; empty at a failure."""
        if self.row.metrics_path is None or not self.row.gauges:
            return {}
        request = http.build_request("GET", self.row.metrics_path, timeout=_PROBE_S)
        try:
            status, raw = await fetch(http, request)
        except (httpx.HTTPError, BadReply):
            return {}
        text = raw.decode("utf-8", "replace") if status == 200 else ""
        values = {what: backend_kinds.gauge(text, names) for what, names in self.row.gauges.items()}
        return {what: value for what, value in values.items() if value is not None}

    async def sleep(self, http: httpx.AsyncClient, level: SleepLevel) -> None:
        """The idle model gives its device memory back.

        Raises:
            CallFailed: the server did not do it.
        """
        await _take(http, self.row.sleep_steps[level])

    async def wake(self, http: httpx.AsyncClient, level: SleepLevel) -> None:
        """The model is as before the sleep of that level.

        Raises:
            CallFailed: the server did not do it.
        """
        await _take(http, self.row.wake_steps[level])

    async def stop(self) -> None:
        """Ends a local server with what it started: SIGTERM to itself, then SIGKILL to its session."""
        process = self._process
        if process is None or self.exited is None:
            return
        for number, wait_s in ((signal.SIGTERM, _STOP_S), (signal.SIGKILL, _STOP_S)):
            if process.returncode is not None:
                return
            with contextlib.suppress(ProcessLookupError):
                if number == signal.SIGKILL:
                    os.killpg(process.pid, number)
                else:
                    process.send_signal(number)
            await asyncio.wait({self.exited}, timeout=wait_s)


def _clean_line(line: bytes) -> str:
    """A line for a person: printable, and not too long."""
    text = line[: 4 * _LINE_CHARS].decode("utf-8", "replace")
    return _UNPRINTABLE.sub(" ", text).strip()[:_LINE_CHARS]


def _connect_words(error: httpx.ConnectError) -> str:
    """Why no connection came about; without the address, which callers need not know."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, socket.gaierror):
            return "its name is not known"
        if isinstance(cause, ConnectionRefusedError):
            return "connection refused"
        cause = cause.__cause__ or cause.__context__
    return "no connection"


async def _take(http: httpx.AsyncClient, steps: Sequence[Step]) -> None:
    for step in steps:
        try:
            reply = await http.post(step.path, json=step.body, timeout=_SLEEP_STEP_S)
        except httpx.HTTPError as error:
            raise backend_errors.read_transport_error(error) from None
        if reply.is_error:
            raise CallFailed(f"http_{reply.status_code}")


async def fetch(http: httpx.AsyncClient, request: httpx.Request) -> tuple[int, bytes]:
    """Status and at most so many bytes of the body: a server is not trusted before it is warm either."""
    response = await http.send(request, stream=True)
    try:
        raw = bytearray()
        async for part in response.aiter_raw():
            raw += part
            if len(raw) > _REPLY_BYTES:
                raise BadReply("too_long")
        return response.status_code, bytes(raw)
    finally:
        await response.aclose()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
