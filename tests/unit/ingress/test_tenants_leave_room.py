"""What one tenant holds open never takes the last place from another."""

import asyncio
import dataclasses
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import httpx
import pytest
from starlette.responses import Response

from events import names as types
from events.names import State
from functions.ingress.api_keys import ApiKeys
from functions.ingress.body_turns import TurnLimits, Turns
from functions.ingress.middleware import Guard
from functions.ingress.row_watch import RowWatch
from functions.ingress.tenant_shares import SharedRoom, may_take
from functions.ports.store import Mark
from functions.runtime.errors import ApiError, StoreFailed

pytestmark = pytest.mark.anyio
CHAT = "/v1/chat/completions"
GREEDY, QUIET = {"authorization": "Bearer k1"}, {"authorization": "Bearer k2"}
ASYNC = {"prefer": "respond-async"}


def greedy(places: int, share: float, tenants: int) -> list[int]:
    """What each of several tenants holds when all take what they get."""
    room = SharedRoom()
    names = [str(number) for number in range(tenants)]
    held: Counter[str] = Counter()
    while taken := [name for name in names if room.try_enter(name, 1, room=places, share=share)]:
        held.update(taken)
    return [held[name] for name in names]


async def test_greedy_tenants_leave_as_much_as_each_has() -> None:
    assert greedy(100, 0.5, 1) == [50]
    assert greedy(99, 0.5, 2) == [33, 33]
    assert greedy(100, 0.75, 1) == [75]
    assert sum(greedy(100, 0.5, 9)) <= 91
    assert greedy(100, 1.0, 1) == [100]


async def test_whoever_holds_nothing_finds_room_while_there_is_any() -> None:
    for places in (1, 2, 10):
        for taken in range(places):
            assert may_take(own=0, taken=taken, places=places, share=0.5)
        assert not may_take(own=0, taken=places, places=places, share=1.0)


async def test_what_is_given_back_is_free_again() -> None:
    room = SharedRoom()
    assert [room.try_enter("a", 1, room=4, share=0.5) for _ in range(3)] == [True, True, False]
    room.leave("a", 1)
    assert room.try_enter("a", 1, room=4, share=0.5)
    assert room.taken == 2


@pytest.fixture
def two(rig: Any) -> Any:
    rig.use(keys=ApiKeys.parse("greedy=k1,quiet=k2"))
    rig.worker.script = lambda worker, request: ()
    return rig


async def finished(tasks: Sequence["asyncio.Task[Any]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_waiting_calls_leave_waiters_to_others(
    two: Any, chat: Any, live: Any, eventually: Any
) -> None:
    two.configure(max_waiters=8)
    async with live(two) as client:
        mine = [
            asyncio.ensure_future(client.post(CHAT, json=chat, headers=GREEDY)) for _ in range(12)
        ]
        await eventually(lambda: sum(one.done() for one in mine) == 8)
        assert {one.result().json()["error"]["code"] for one in mine if one.done()} == {
            "tenant_rate"
        }
        assert {one.result().status_code for one in mine if one.done()} == {429}
        two.worker.script = lambda worker, request: worker.completed(request)
        assert (await client.post(CHAT, json=chat, headers=QUIET)).status_code == 200
        await finished(mine)


async def test_a_lone_tenant_has_all_places(
    rig: Any, chat: Any, live: Any, eventually: Any
) -> None:
    rig.configure(max_waiters=8)
    rig.worker.script = lambda worker, request: ()
    async with live(rig) as client:
        mine = [asyncio.ensure_future(client.post(CHAT, json=chat)) for _ in range(8)]
        await eventually(lambda: len(rig.deps.waiters) == 8)
        assert (await client.post(CHAT, json=chat)).json()["error"]["code"] == "overloaded"
        await finished(mine)


@pytest.mark.parametrize("how", ["polls", "joins"])
async def test_calls_that_wait_for_another_leave_room_too(
    two: Any, chat: Any, live: Any, eventually: Any, monkeypatch: Any, how: str
) -> None:
    monkeypatch.setattr("functions.ingress.middleware.SPARE_CALLS", 4)
    two.configure(max_waiters=8)
    async with live(two) as client:
        keyed = GREEDY | {"idempotency-key": "same"}
        first = await client.post(CHAT, json=chat, headers=keyed | ASYNC)
        url = first.headers["location"]

        def ask() -> Any:
            if how == "polls":
                return client.get(url, headers=GREEDY | {"prefer": "wait=60"})
            return client.post(CHAT, json=chat, headers=keyed)

        mine = [asyncio.ensure_future(ask()) for _ in range(20)]
        await eventually(lambda: sum(one.done() for one in mine) == 14)
        assert {one.result().status_code for one in mine if one.done()} == {429}
        two.worker.script = lambda worker, request: worker.completed(request)
        for _ in range(3):
            assert (await client.post(CHAT, json=chat, headers=QUIET)).status_code == 200
        await finished(mine)
        await eventually(lambda: not len(two.deps.rows))


async def test_calls_without_a_key_have_one_share_together(
    two: Any, eventually: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("functions.ingress.middleware.SPARE_CALLS", 4)
    two.configure(max_waiters=8)
    release = asyncio.Event()

    async def doors(scope: Any, receive: Any, send: Any) -> None:
        """Doors that are slow to refuse."""
        if scope["path"] == "/slow":
            await release.wait()
        await Response()(scope, receive, send)

    transport = httpx.ASGITransport(Guard(doors, two.deps))
    async with httpx.AsyncClient(transport=transport, base_url="http://t") as client:
        guesses = [{"authorization": f"Bearer guess{number}"} for number in range(12)]
        theirs = [asyncio.ensure_future(client.get("/slow", headers=guess)) for guess in guesses]
        await eventually(lambda: sum(one.done() for one in theirs) == 6)
        assert {one.result().status_code for one in theirs if one.done()} == {429}
        for _ in range(3):
            assert (await client.get("/", headers=QUIET)).status_code == 200
        release.set()
        answers = await asyncio.gather(*theirs)
    assert sum(answer.status_code == 200 for answer in answers) == 6


async def test_a_poll_whose_client_left_is_forgotten(
    rig: Any, chat: Any, live: Any, eventually: Any
) -> None:
    rig.worker.script = lambda worker, request: ()
    async with live(rig) as client:
        url = (await client.post(CHAT, json=chat, headers=ASYNC)).headers["location"]
        _, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        writer.write(b"GET %s HTTP/1.1\r\nhost: t\r\nprefer: wait=60\r\n\r\n" % url.encode())
        await eventually(lambda: len(rig.deps.rows) == 1)
        writer.close()
        await eventually(lambda: len(rig.deps.rows) == 0)
        assert len(rig.deps.calls) == 0


class Looks:
    """A store that counts how often it is asked."""

    def __init__(self) -> None:
        self.marks = {str(number): Mark(State.ACCEPTED, 1) for number in range(300)}
        self.count = 0
        self.failure: StoreFailed | None = None

    async def ask(self, ids: Sequence[str]) -> Mapping[str, Mark]:
        self.count += 1
        if self.failure is not None:
            raise self.failure
        return {one: self.marks[one] for one in ids if one in self.marks}


def has_ended(mark: Mark | None) -> bool:
    return mark is None or mark.state.is_terminal


async def test_many_who_wait_are_one_look(eventually: Any) -> None:
    watch, looks = RowWatch(), Looks()
    tasks = [
        asyncio.create_task(watch.wait(looks.ask, one, has_ended, 10.0)) for one in looks.marks
    ]
    await eventually(lambda: looks.count >= 3)
    assert looks.count < 30
    assert not any(task.done() for task in tasks)
    looks.marks["7"] = dataclasses.replace(looks.marks["7"], state=State.COMPLETED)
    del looks.marks["8"]
    assert await tasks[7]
    assert await tasks[8]
    assert sum(task.done() for task in tasks) == 2
    await finished(tasks)
    assert len(watch) == 0


async def test_a_wait_without_news_ends_in_time() -> None:
    watch, looks = RowWatch(), Looks()
    assert not await watch.wait(looks.ask, "1", has_ended, 0.01)
    assert len(watch) == 0


async def test_a_look_that_fails_is_told_to_all_who_wait() -> None:
    watch, looks = RowWatch(), Looks()
    looks.failure = StoreFailed("gone", is_transient=True)
    waits = [watch.wait(looks.ask, one, has_ended, 10.0) for one in ("1", "2")]
    found = await asyncio.gather(*waits, return_exceptions=True)
    assert found == [looks.failure] * 2
    looks.failure = None
    looks.marks["1"] = Mark(State.FAILED, 2)
    assert await watch.wait(looks.ask, "1", has_ended, 10.0)


LIMITS = TurnLimits(large_bytes=100, loop_share=0.2, bytes_s=math.inf, most=3, wait_s=60.0)


def at_once(work: Callable[[], Any]) -> Callable[[], Awaitable[Any]]:
    """Work that never waits."""

    async def run() -> Any:
        return work()

    return run


async def test_small_bodies_need_no_turn() -> None:
    turns = Turns()
    assert [await turns.run(LIMITS, "a", 99, at_once(lambda: 1)) for _ in range(9)] == [1] * 9


async def test_between_two_large_bodies_a_tenant_rests() -> None:
    turns, loop, begun = Turns(), asyncio.get_running_loop(), []
    limits = dataclasses.replace(LIMITS, bytes_s=1000.0)

    def work() -> None:
        begun.append(loop.time())

    await asyncio.gather(*(turns.run(limits, "a", 200, at_once(work)) for _ in range(3)))
    assert begun[1] - begun[0] > 0.15
    assert begun[2] - begun[1] > 0.15


async def test_the_first_large_body_of_a_tenant_waits_for_no_rest() -> None:
    turns, begun = Turns(), []
    limits = dataclasses.replace(LIMITS, bytes_s=0.2)  # a rest of a quarter of an hour
    async with asyncio.timeout(5):
        await turns.run(limits, "a", 200, at_once(lambda: begun.append("a")))
        resting = asyncio.ensure_future(
            turns.run(limits, "a", 200, at_once(lambda: begun.append("a")))
        )
        await asyncio.sleep(0)
        await turns.run(limits, "b", 200, at_once(lambda: begun.append("b")))
    assert begun == ["a", "b"]
    await finished([resting])


async def test_nobody_waits_for_a_turn_without_end() -> None:
    turns = Turns()
    limits = dataclasses.replace(LIMITS, bytes_s=0.2, wait_s=0.05)  # a rest of a quarter of an hour
    await turns.run(limits, "a", 200, at_once(lambda: None))
    async with asyncio.timeout(5):
        with pytest.raises(ApiError) as refused:
            await turns.run(limits, "a", 200, at_once(lambda: None))
    assert refused.value.code == "tenant_rate"


async def test_a_body_that_took_long_is_followed_by_a_long_rest() -> None:
    turns, loop = Turns(), asyncio.get_running_loop()

    def slow() -> float:
        until = loop.time() + 0.05
        while loop.time() < until:
            pass
        return loop.time()

    ended = await turns.run(LIMITS, "a", 100, at_once(slow))
    next_began = await turns.run(LIMITS, "a", 100, at_once(loop.time))
    assert next_began - ended > 0.15


async def test_only_so_many_large_bodies_of_a_tenant_wait() -> None:
    turns = Turns()
    limits = dataclasses.replace(LIMITS, bytes_s=1000.0)
    calls = [turns.run(limits, "a", 200, at_once(lambda: True)) for _ in range(6)]
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert found.count(True) == 4
    refused = [one for one in found if isinstance(one, ApiError)]
    assert [one.code for one in refused] == ["tenant_rate"] * 2


async def test_work_that_is_refused_and_callers_that_leave_keep_no_turn() -> None:
    turns = Turns()

    def refuse() -> None:
        raise ApiError("invalid_body", "no")

    with pytest.raises(ApiError):
        await turns.run(LIMITS, "a", 100, at_once(refuse))
    slow = dataclasses.replace(LIMITS, bytes_s=1000.0)
    assert await turns.run(slow, "a", 300, at_once(lambda: True))
    left = asyncio.ensure_future(turns.run(slow, "a", 300, at_once(lambda: True)))
    await asyncio.sleep(0)
    left.cancel()
    assert await asyncio.wait_for(turns.run(slow, "a", 300, at_once(lambda: True)), 5.0)


@pytest.mark.parametrize("path", [CHAT, "/v1/responses", "/v1/batches", "/v1/callbacks", "/"])
async def test_every_door_reads_large_bodies_in_turn(
    two: Any, chat: Any, live: Any, path: str
) -> None:
    two.configure(large_body_bytes_s=1.0, large_body_waiting=0)
    two.worker.script = lambda worker, request: worker.completed(request)
    large = chat | {"input": "hi", "user": "x" * 100_000}
    async with live(two) as client:
        event = {"ce-id": "1", "ce-source": "/s", "ce-type": types.REQUEST, "ce-specversion": "1.0"}
        headers = event if path == "/" else {}
        first = await client.post(path, json=large, headers=GREEDY | headers)
        assert first.status_code != 429
        answer = await client.post(path, json=large, headers=GREEDY | headers)
        assert answer.json()["error"]["code"] == "tenant_rate"
        assert (await client.post(CHAT, json=chat, headers=GREEDY)).status_code == 200
