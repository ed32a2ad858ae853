"""Sends the requests of one strategy, open loop: each at its time, whatever became of those before it."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final

import httpx

from benchmarks.table3.pool import Pool
from benchmarks.table3.questions import Arrival, tokens_in, tokens_out
from benchmarks.table3.strategies import Strategy

SLACK_S: Final = 30.0
"""Beyond the deadline, of wall time: the service answers 504 by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """One request and what it came to. `seconds` are of simulated time, from arrival to the whole answer.

    `model_s` is what the model itself takes of it; the rest is queueing and the service. `usd` is list price x tokens,
    `busy_usd` what the service charged for the place while it was busy. `model` None: no model answered, and `success`
    is 0. `expected_success` and `expected_usd` are means over the models of the pool: what random allocation gets of
    this question on average.
    """

    qkey: str
    success: float
    seconds: float
    model_s: float
    usd: float
    busy_usd: float
    expected_success: float
    expected_usd: float
    model: str | None
    stage: str | None
    status: int


async def drive(
    url: str, pool: Pool, strategy: Strategy, requests: Sequence[Arrival], scale: float
) -> list[Answered]:
    """One run, in the order of arrival. `scale`: simulated seconds in a second."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=64)
    wait_s = pool.deadline_s / scale + SLACK_S
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=wait_s) as http:
        began_s = time.perf_counter()
        asked = [
            asyncio.create_task(_ask(http, pool, strategy, one, (began_s, scale)))
            for one in requests
        ]
        return await asyncio.gather(*asked)


async def _ask(
    http: httpx.AsyncClient,
    pool: Pool,
    strategy: Strategy,
    one: Arrival,
    clock: tuple[float, float],
) -> Answered:
    began_s, scale = clock
    model = strategy.model(one.row.prompt)
    due_s = began_s + one.at_s / scale
    await asyncio.sleep(max(0.0, due_s - time.perf_counter()))
    headers = {"x-pickspin-deadline-s": str(pool.deadline_s / scale)}
    if strategy.profile is not None:
        headers["x-pickspin-profile"] = strategy.profile
    body = {
        "model": model,
        "messages": [{"role": "user", "content": one.row.prompt}],
        "store": False,
    }
    answer = await http.post("/v1/chat/completions", json=body, headers=headers)
    return answered(pool, one, answer, (time.perf_counter() - due_s) * scale)


def answered(pool: Pool, one: Arrival, answer: httpx.Response, seconds: float) -> Answered:
    """What an answer says: the recorded outcome of whoever answered, if it did in time."""
    model_id = answer.headers.get("x-pickspin-model") if answer.status_code == 200 else None
    success = usd = model_s = 0.0
    if model_id is not None:
        model = pool.model(model_id)
        tokens = tokens_in(one.row), tokens_out(one.row, model.learned_as)
        usd, model_s = model.usd(*tokens), model.alone_s(*tokens)
        success = one.row.outcomes[model.learned_as] if seconds <= pool.deadline_s else 0.0
    return Answered(
        qkey=one.row.qkey,
        success=success,
        seconds=seconds,
        model_s=model_s,
        usd=usd,
        busy_usd=float(answer.headers.get("x-pickspin-cost", 0.0)),
        expected_success=fmean(one.row.outcomes[each.learned_as] for each in pool.models),
        expected_usd=fmean(
            each.usd(tokens_in(one.row), tokens_out(one.row, each.learned_as))
            for each in pool.models
        ),
        model=model_id,
        stage=answer.headers.get("x-pickspin-stage"),
        status=answer.status_code,
    )
