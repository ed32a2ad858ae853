"""An idle model is put to sleep, and is awake whenever it is called."""

import asyncio
import contextlib

import httpx
import pytest

from functions.backends.backend_kinds import TABLE
from functions.worker.backend_errors import CallFailed
from functions.worker.idle_sleep import IdleSleep
from functions.worker.model_server import ModelServer


class Server:
    """Notes what it was told; fails while `is_broken`."""

    def __init__(self):
        self.told = []
        self.is_broken = False
        self.waking = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def sleep(self):
        self.told.append("sleep")
        await self.gate.wait()
        if self.is_broken:
            raise CallFailed("http_500")

    async def wake(self):
        self.told.append("wake")
        self.waking.set()
        await self.gate.wait()
        if self.is_broken:
            raise CallFailed("http_500")


class Time:
    seconds = 0.0


def dozing(server, after_s=10.0):
    return IdleSleep(
        sleep=server.sleep, wake=server.wake, after_s=after_s, now=lambda: Time.seconds
    )


@pytest.fixture(autouse=True)
def at_zero():
    Time.seconds = 0.0


def test_it_sleeps_when_idle_for_long_enough_and_wakes_once():
    async def scenario():
        server = Server()
        model = dozing(server)
        Time.seconds = 9.9
        await model.doze()
        assert server.told == []
        Time.seconds = 10.0
        await model.doze()
        await model.doze()
        assert (server.told, model.is_asleep) == (["sleep"], True)
        async with model.in_use(), model.in_use():
            assert not model.is_asleep
        assert server.told == ["sleep", "wake"]

    asyncio.run(scenario())


def test_it_never_sleeps_while_a_call_runs():
    async def scenario():
        server = Server()
        model = dozing(server)
        async with model.in_use():
            Time.seconds = 100.0
            await model.doze()
            assert server.told == []
        await model.doze()
        assert server.told == []  # idle only since the call ended
        Time.seconds = 110.0
        await model.doze()
        assert server.told == ["sleep"]

    asyncio.run(scenario())


def test_a_call_that_comes_while_it_falls_asleep_waits_and_wakes_it():
    async def scenario():
        server = Server()
        model = dozing(server)
        Time.seconds = 10.0
        server.gate.clear()
        falling = asyncio.create_task(model.doze())
        await asyncio.sleep(0)
        entered = asyncio.Event()

        async def call():
            async with model.in_use():
                entered.set()

        calling = asyncio.create_task(call())
        await asyncio.sleep(0)
        assert not entered.is_set()
        server.gate.set()
        await asyncio.gather(falling, calling)
        assert server.told == ["sleep", "wake"]

    asyncio.run(scenario())


def test_a_wake_goes_on_when_the_call_that_began_it_is_cancelled():
    async def scenario():
        server = Server()
        model = dozing(server)
        Time.seconds = 10.0
        await model.doze()
        server.gate.clear()

        async def call():
            async with model.in_use():
                raise AssertionError("cancelled before")

        calling = asyncio.create_task(call())
        await server.waking.wait()
        calling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await calling
        server.gate.set()
        async with model.in_use():
            assert server.told == ["sleep", "wake"]

    asyncio.run(scenario())


def test_a_wake_that_failed_is_tried_again_by_the_next_call():
    async def scenario():
        server = Server()
        model = dozing(server)
        Time.seconds = 10.0
        await model.doze()
        server.is_broken = True
        with pytest.raises(CallFailed):
            async with model.in_use():
                raise AssertionError("never awake")
        server.is_broken = False
        async with model.in_use():
            assert server.told == ["sleep", "wake", "wake"]

    asyncio.run(scenario())


def test_a_sleep_that_failed_half_way_is_followed_by_a_wake():
    async def scenario():
        server = Server()
        model = dozing(server)
        Time.seconds = 10.0
        server.is_broken = True
        await model.doze()
        server.is_broken = False
        async with model.in_use():
            assert server.told == ["sleep", "wake"]

    asyncio.run(scenario())


def test_without_a_time_it_is_left_alone():
    async def scenario():
        server = Server()
        model = dozing(server, after_s=None)
        Time.seconds = 1e9
        await model.watch()
        await model.doze()
        async with model.in_use():
            assert server.told == []

    asyncio.run(scenario())


def talk(level, answer):
    """What a server of kind vLLM is sent by a sleep and a wake of that level."""
    seen = []

    def serve(request):
        seen.append((str(request.url.raw_path, "ascii"), request.content))
        return answer(request)

    async def scenario():
        server = ModelServer("http://vllm", TABLE["vllm"])
        async with httpx.AsyncClient(
            base_url=server.root, transport=httpx.MockTransport(serve)
        ) as http:
            await server.sleep(http, level)
            await server.wake(http, level)

    asyncio.run(scenario())
    return seen


def test_the_two_levels_are_spoken_as_vllm_documents_them():
    def fine(_):
        return httpx.Response(200)

    assert talk(1, fine) == [("/sleep?level=1", b""), ("/wake_up", b"")]
    assert talk(2, fine) == [
        ("/sleep?level=2", b""),
        ("/wake_up?tags=weights", b""),
        ("/collective_rpc", b'{"method":"reload_weights"}'),
        ("/wake_up?tags=kv_cache", b""),
    ]


def test_a_server_that_refuses_is_a_failed_call():
    with pytest.raises(CallFailed, match="http_404"):
        talk(1, lambda _: httpx.Response(404))
