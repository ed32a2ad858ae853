"""A stream that waits speaks often enough for proxies and seldom enough for clients that count its lines."""

import asyncio
import re
from typing import Any

import httpx
import pytest

from events.names import ReplicaState
from events.payloads import StatusData
from functions.ingress.heartbeats import MOST_NEWS, Heartbeats
from functions.runtime.settings import IngressSettings
from router_model.service_registry import Registry

LINES_OF_GO = 300
"""Lines without data after which the Go client gives up."""
PROXY_S = 15.0


def lines_in(seconds: float, *, news_every_s: float | None = None) -> tuple[int, float]:
    """Lines of a stream that waits, and its longest silence."""
    settings = IngressSettings()
    now, last, longest, lines, told = 0.0, 0.0, 0.0, 0, 0
    beats = Heartbeats(first_s=settings.heartbeat_s, most_s=settings.heartbeat_most_s, now_s=now)
    while now < seconds:
        news = 0 if news_every_s is None else int(now / news_every_s)
        if beats.is_due(now, has_news=news > told):
            lines += beats.comment(b": waiting\n", now).count(b"\n")
            longest, last, told = max(longest, now - last), now, news
            continue
        now += max(1e-3, min(beats.wait_s(now), 0.5))
    return lines, longest


def test_an_hour_of_loading_is_survived_by_clients_that_count_lines() -> None:
    lines, longest = lines_in(3600.0)
    assert lines < LINES_OF_GO
    assert longest <= PROXY_S


def test_a_state_that_keeps_changing_is_not_said_each_time() -> None:
    lines, longest = lines_in(2000.0, news_every_s=1.0)
    assert lines < LINES_OF_GO
    assert longest <= PROXY_S


def test_news_is_said_at_once() -> None:
    beats = Heartbeats(first_s=1.0, most_s=15.0, now_s=0.0)
    beats.comment(b": a\n", 0.0)
    assert not beats.is_due(0.1)
    assert beats.is_due(0.1, has_news=True)
    for _ in range(MOST_NEWS):
        beats.comment(b": a\n", 0.1)
    assert not beats.is_due(0.1, has_news=True)


def test_data_is_parted_from_comments_and_begins_the_rhythm_anew() -> None:
    beats = Heartbeats(first_s=1.0, most_s=15.0, now_s=0.0)
    assert beats.data(b"data: 1\n\n", 0.0) == b"data: 1\n\n"
    for at in (1.0, 3.0, 6.0):
        beats.comment(b": a\n", at)
    assert beats.data(b"data: 2\n\n", 6.5) == b"\ndata: 2\n\n"
    assert beats.data(b"data: 3\n\n", 6.5) == b"data: 3\n\n"
    assert not beats.is_due(7.4)
    assert beats.is_due(7.6)


@pytest.mark.anyio
async def test_a_comment_is_one_line_on_the_wire(rig: Any, chat: Any, live: Any) -> None:
    loading = StatusData(
        service="smol", replica="0", state=ReplicaState.LOADING, at=rig.deps.clock.now(), eta_s=9.0
    )
    rig.registry[0] = Registry().apply(loading)
    held = rig.worker.hold(lambda worker, request: worker.progress(request))
    raw = b""
    async with live(rig) as client, asyncio.timeout(10):
        answer: httpx.Response
        async with client.stream(
            "POST", "/v1/chat/completions", json=chat | {"stream": True}
        ) as answer:
            async for part in answer.aiter_raw():
                raw += part
                if raw.count(b": pickspin") >= 4 and held:
                    request = held.pop()
                    rig.worker.send(
                        *rig.worker.chunk(request, "hi", 0), *rig.worker.completed(request)
                    )
    waiting, _, spoken = raw.partition(b"\n\n")
    assert re.fullmatch(rb"(: pickspin [^\n]+\n)*: pickspin [^\n]+", waiting)
    assert spoken.startswith(b"data: {")
    assert raw.endswith(b"data: [DONE]\n\n")
