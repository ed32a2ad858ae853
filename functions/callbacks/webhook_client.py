"""One POST to a checked address: no redirects, proxies or decompression, bounded read and time."""

import asyncio
import socket
import ssl
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

import httpx

_SAFE: Final = httpx.Limits(max_connections=256, max_keepalive_connections=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookRequest:
    """Where and what to POST. `address` is what is connected to; `host_header` and `server_name` are what is said.

    `path` includes the query, as it goes on the wire.
    """

    scheme: str
    address: str
    port: int
    path: str
    host_header: str
    server_name: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookAnswer:
    """What came back. `status` None: nothing did; `failure` is its class. Nothing of the body is kept."""

    status: int | None = None
    failure: str | None = None
    retry_after: str | None = None


class Resolver(Protocol):
    """Addresses of a name, in order of preference; empty where there are none."""

    async def __call__(self, host: str, port: int) -> Sequence[str]: ...


class SystemResolver:
    """The system's resolver on threads of its own, so that slow names hold up nothing else."""

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="resolve")

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        loop = asyncio.get_running_loop()
        look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        try:
            addresses = await loop.run_in_executor(self._pool, look_up)
        except (OSError, UnicodeError):
            return ()
        return tuple(dict.fromkeys(str(address[0]) for *_, address in addresses))

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)


class WebhookClient:
    """Sends attempts. `timeout_s` bounds one attempt from connecting to the last byte read.

    A server that answers with an endless body is cut off after `max_response_bytes`; its status counts.
    """

    def __init__(
        self, *, timeout_s: float, max_response_bytes: int, verify: ssl.SSLContext | bool = True
    ) -> None:
        self._timeout_s = timeout_s
        self._max_bytes = max_response_bytes
        self._client = httpx.AsyncClient(
            trust_env=False,
            follow_redirects=False,
            limits=_SAFE,
            timeout=httpx.Timeout(timeout_s),
            verify=verify,
            headers={"user-agent": "pickspin-callbacks", "accept-encoding": "identity"},
        )

    async def post(self, request: WebhookRequest) -> WebhookAnswer:
        """One attempt; never raises for what a network or a receiver does."""
        answers: list[WebhookAnswer] = []
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._exchange(request, answers)
        except TimeoutError:
            failure = "timeout"
        except httpx.TimeoutException:
            failure = "timeout"
        except httpx.ConnectError as error:
            failure = "tls" if _is_tls(error) else "connect"
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError):
            failure = "protocol"
        else:
            failure = "protocol"
        # Once the status is there, what becomes of the body changes nothing.
        return answers[0] if answers else WebhookAnswer(failure=failure)

    async def _exchange(self, request: WebhookRequest, answers: list[WebhookAnswer]) -> None:
        place = f"[{request.address}]" if ":" in request.address else request.address
        url = httpx.URL(f"{request.scheme}://{place}:{request.port}").copy_with(
            raw_path=request.path.encode("ascii")
        )
        headers = {**request.headers, "host": request.host_header, "connection": "close"}
        async with self._client.stream(
            "POST",
            url,
            content=request.body,
            headers=headers,
            extensions={"sni_hostname": request.server_name},
        ) as response:
            answers.append(
                WebhookAnswer(
                    status=response.status_code, retry_after=response.headers.get("retry-after")
                )
            )
            left = self._max_bytes
            async for part in response.aiter_raw():
                left -= len(part)
                if left <= 0:
                    return

    async def close(self) -> None:
        await self._client.aclose()


def _is_tls(error: BaseException) -> bool:
    """Httpx wraps what the TLS layer raised."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
