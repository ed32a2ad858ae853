"""The worker shows its model server's own gauges, under one name whatever the kind."""

import asyncio

import httpx
import pytest

from functions.backends.backend_kinds import TABLE
from functions.worker.model_server import ModelServer

VLLM = """\
vllm:num_requests_running{engine="0"} 2.0
vllm:num_requests_waiting{engine="0"} 5.0
vllm:kv_cache_usage_perc{engine="0"} 0.25
"""


def says(body, status=200):
    return httpx.Response(status, stream=httpx.ByteStream(body))


def gauges(kind, answer):
    async def scenario():
        server = ModelServer("http://model", TABLE[kind])
        transport = httpx.MockTransport(answer)
        async with httpx.AsyncClient(base_url=server.root, transport=transport) as http:
            return await server.gauges(http)

    return asyncio.run(scenario())


def test_each_kind_is_asked_where_it_answers():
    asked = []

    def answer(request):
        asked.append(request.url.path)
        return says(VLLM.encode())

    assert gauges("vllm", answer) == {"running": 2.0, "waiting": 5.0, "cache": 0.25}
    assert gauges("trtllm", answer) == {}
    assert gauges("openai", answer) == {}
    assert asked == ["/metrics", "/prometheus/metrics"]


def refuse(_):
    raise httpx.ReadTimeout("slow")


@pytest.mark.parametrize(
    "answer",
    [refuse, lambda _: says(b"", 404), lambda _: says(b"\xff\0 {")],
    ids=["timeout", "404", "noise"],
)
def test_a_server_that_says_nothing_readable_says_nothing(answer):
    assert gauges("vllm", answer) == {}


def test_a_fake_model_has_a_gauge_of_its_own(stand):
    async def scenario():
        async with stand() as found, found.worker() as worker:
            parts = worker._parts
            await worker._server_failure()
            return parts.metrics.engine.labels("small", "running")._value.get()

    assert asyncio.run(scenario()) == 0.0
