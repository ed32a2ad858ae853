"""What one tenant holds open never takes the last place from another."""

import asyncio
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from events.types import State
from functions.errors import StoreFailed
from functions.ingress.identity import Keys
from functions.ingress.row_watch import RowWatch
from functions.ingress.shares import Shares, may_take
from functions.store import Mark

pytestmark = pytest.mark.anyio
CHAT = "/v1/chat/completions"
GREEDY, QUIET = {"authorization": "Bearer k1"}, {"authorization": "Bearer k2"}
ASYNC = {"prefer": "respond-async"}


def greedy(places: int, share: float, tenants: int) -> list[int]:
    """What each of several tenants holds when all take what they get."""
    shares = Shares(places, share)
    names = [str(number) for number in range(tenants)]
    while sum(shares.take(name) for name in names):
        pass
    return [shares.held_by(name) for name in names]


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
    shares = Shares(4, 0.5)
    assert [shares.take("a") for _ in range(3)] == [True, True, False]
    shares.free("a")
    assert shares.take("a")
    assert not shares.is_full


@pytest.fixture
def two(rig: Any) -> Any:
    rig.use(keys=Keys.parse("greedy=k1,quiet=k2"))
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
    monkeypatch.setattr("functions.ingress.guarding.SPARE_CALLS", 4)
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
    two: Any, live: Any, eventually: Any, monkeypatch: Any, chat: Any
) -> None:
    monkeypatch.setattr("functions.ingress.guarding.SPARE_CALLS", 4)
    two.configure(max_waiters=8)
    async with live(two) as client:
        host, port = client.base_url.host, client.base_url.port
        held = [await asyncio.open_connection(host, port) for _ in range(12)]
        for number, (_, writer) in enumerate(held):
            key = b"authorization: Bearer guess%d\r\n" % number
            writer.write(b"POST / HTTP/1.1\r\nhost: t\r\n" + key + b"content-length: 9\r\n\r\n")
        two.worker.script = lambda worker, request: worker.completed(request)
        for _ in range(3):
            assert (await client.post(CHAT, json=chat, headers=QUIET)).status_code == 200
        for _, writer in held:
            writer.close()


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
        asyncio.create_task(watch.changed(looks.ask, one, has_ended, 10.0)) for one in looks.marks
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
    assert not await watch.changed(looks.ask, "1", has_ended, 0.01)
    assert len(watch) == 0


async def test_a_look_that_fails_is_told_to_all_who_wait() -> None:
    watch, looks = RowWatch(), Looks()
    looks.failure = StoreFailed("gone", is_transient=True)
    waits = [watch.changed(looks.ask, one, has_ended, 10.0) for one in ("1", "2")]
    found = await asyncio.gather(*waits, return_exceptions=True)
    assert found == [looks.failure] * 2
    looks.failure = None
    looks.marks["1"] = Mark(State.FAILED, 2)
    assert await watch.changed(looks.ask, "1", has_ended, 10.0)
