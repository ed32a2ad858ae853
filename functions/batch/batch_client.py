"""Sends the requests of a batch to an ingress, a bounded number at once, and hands each answer on as it comes."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

import httpx

from functions.batch.file_format import Answer, Ask
from functions.batch.resend_policy import is_worth_a_retry, pause_s

MAX_ATTEMPTS: Final = 8
CONNECT_S: Final = 10.0
ANSWER_S: Final = 130.0
"""Above the ingress's own wait of 115 s, so that its 504 wins over our timeout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a batch goes. `url` is the base without `/v1`."""

    url: str
    key: str | None
    concurrency: int


async def send_all(
    asks: Sequence[Ask], target: Target, client: httpx.AsyncClient | None = None
) -> AsyncIterator[Answer]:
    """Answers in the order in which they come. A request that was answered is never sent again: its idempotency key
    joins it to the first one, even across runs.
    """
    own = client or httpx.AsyncClient(
        timeout=httpx.Timeout(ANSWER_S, connect=CONNECT_S),
        limits=httpx.Limits(max_connections=target.concurrency),
    )
    waiting: asyncio.Queue[Ask] = asyncio.Queue()
    answers: asyncio.Queue[Answer] = asyncio.Queue(maxsize=target.concurrency)
    for ask in asks:
        waiting.put_nowait(ask)
    senders = [
        asyncio.create_task(_send_from(waiting, answers, own, target))
        for _ in range(min(target.concurrency, len(asks)))
    ]
    try:
        for _ in asks:
            yield await answers.get()
    finally:
        for sender in senders:
            sender.cancel()
        await asyncio.gather(*senders, return_exceptions=True)
        await own.aclose()


async def _send_from(
    waiting: asyncio.Queue[Ask],
    answers: asyncio.Queue[Answer],
    client: httpx.AsyncClient,
    target: Target,
) -> None:
    while not waiting.empty():
        await answers.put(await send(waiting.get_nowait(), client, target))


async def send(ask: Ask, client: httpx.AsyncClient, target: Target) -> Answer:
    """The answer to one request, refusals that pass waited out. Never raises for what the network does."""
    problem, reply = "", None
    for attempt in range(1, MAX_ATTEMPTS + 1):
        headers: httpx.Headers | dict[str, str] = {}
        try:
            reply = await client.post(
                f"{target.url}{ask.path}", json=dict(ask.body), headers=_headers(ask, target)
            )
            headers = reply.headers
            if reply.is_success or not is_worth_a_retry(reply.status_code, headers):
                return _answer(ask, reply)
        except httpx.HTTPError as error:
            problem, reply = type(error).__name__, None
        if attempt < MAX_ATTEMPTS:
            await asyncio.sleep(pause_s(attempt, headers, random.random()))  # noqa: S311 - spreads load, no secret
    if reply is not None:
        return _answer(ask, reply)
    return Answer(
        ask=ask,
        status=None,
        request_id=None,
        body=None,
        problem=f"no answer after {MAX_ATTEMPTS} attempts ({problem})",
    )


def _headers(ask: Ask, target: Target) -> dict[str, str]:
    headers = {"idempotency-key": ask.idempotency_key, "x-pickspin-priority": "batch"}
    return headers | ({"authorization": f"Bearer {target.key}"} if target.key else {})


def _answer(ask: Ask, reply: httpx.Response) -> Answer:
    try:
        body = reply.json()
    except ValueError:
        body = None
    return Answer(
        ask=ask,
        status=reply.status_code,
        request_id=reply.headers.get("x-pickspin-request-id"),
        body=body,
        problem=None if body is not None else "the answer is not JSON",
    )
