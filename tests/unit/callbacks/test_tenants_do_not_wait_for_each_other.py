"""Receivers that hang, and deliveries that cannot be made, keep nobody else's waiting."""

import asyncio

from functions.callbacks import delivery_worker
from functions.runtime.shutdown import StopFlag
from tests.unit.callbacks.conftest import TOPICS

HANGING = 150


def hang(desk, *, hosts):
    """A tenant's callbacks, each to a target of its own that never answers."""
    desk.receiver.hold = asyncio.Event()
    for number in range(HANGING):
        host = f"h{number % hosts}.example"
        desk.names[host] = ["127.0.0.1"]
        url = f"http://{host}:{desk.receiver.port}/"
        desk.add_target(f"slow{number}", url, tenant="slow")
        desk.enqueue(number, f"slow{number}")


async def deliver_another(desk, host="other.example"):
    """One callback of another tenant, delivered by the running loop; returns how long it took."""
    other = type(desk.receiver)()
    await other.start()
    stop = StopFlag()
    running = asyncio.create_task(desk.deliverer.run(stop))
    try:
        await desk.receiver.has_received(1)
        desk.names[host] = ["127.0.0.1"]
        desk.add_target("quick", f"http://{host}:{other.port}/", tenant="quick")
        desk.clock.advance(1)
        desk.enqueue(999, "quick")
        desk.deliverer.wake()
        await desk.until(lambda: desk.delivery(999).state == "delivered")
        assert desk.receiver.open_at_once > 0, "the others still hang"
    finally:
        stop.set()
        desk.receiver.hold.set()
        await running
        await other.stop()


def test_hanging_receivers_of_one_tenant_delay_no_other(stage):
    async def play(desk):
        hang(desk, hosts=HANGING)
        await deliver_another(desk)
        assert desk.receiver.most_at_once <= desk.limits.per_tenant

    stage.run(play, timeout_s=20.0)


def test_those_that_find_no_place_are_looked_at_seldom(stage):
    async def play(desk):
        hang(desk, hosts=1)
        looks = []
        real = desk.store.update_delivery
        desk.store.update_delivery = lambda one: looks.append(one.id) or real(one)
        stop = StopFlag()
        running = asyncio.create_task(desk.deliverer.run(stop))
        for _ in range(20):
            before = len(looks)
            await desk.until(lambda: not desk.store.due_deliveries(desk.clock.now(), 1, lease_s=0))
            assert len(looks) - before <= HANGING
            desk.clock.advance(1)
            desk.deliverer.wake()
        assert len(looks) < 4 * HANGING
        stop.set()
        desk.receiver.hold.set()
        await running

    stage.run(play, timeout_s=20.0)


def test_a_line_grows_and_shrinks():
    lines = delivery_worker.WaitingLines()
    waits = [lines.join(f"d{n}", ("h", "t"), slots=2) for n in range(4)]
    assert waits == [1.0, 1.5, 2.0, 2.5]
    assert lines.join("other", ("h", "u"), slots=2) == 1.0
    for number in range(4):
        lines.leave(f"d{number}")
        lines.leave(f"d{number}")
    assert lines.join("d9", ("h", "t"), slots=2) == 1.0


def test_one_tenant_cannot_take_a_host_that_another_uses(stage):
    async def play(desk):
        hang(desk, hosts=1)
        await deliver_another(desk, host="h0.example")
        assert desk.receiver.most_at_once < desk.limits.per_host

    stage.run(play, timeout_s=20.0)


def test_names_that_hang_keep_no_threads_from_others(stage, monkeypatch):
    monkeypatch.setattr(delivery_worker, "RESOLVE_S", 0.05)

    async def play(desk):
        never = asyncio.Event()
        hanging, most = set(), 0

        async def resolve(host, port):
            nonlocal most
            if not host.startswith("hangs"):
                return ["127.0.0.1"]
            hanging.add(host)
            most = max(most, len(hanging))
            try:
                await never.wait()
            finally:
                hanging.discard(host)
            return []

        desk.resolve = resolve
        desk.deliverer = desk.new_deliverer()
        for number in range(20):
            desk.add_target(f"slow{number}", f"http://hangs{number}.example/", tenant="slow")
            desk.enqueue(number, f"slow{number}")
        for _ in range(4):
            await desk.deliver()
            desk.clock.advance(400)
        # Given up by who waited, and still counted: a thread that looks up cannot be stopped.
        assert len(hanging) == most == desk.limits.per_tenant // 2
        desk.add_target("quick", f"http://quick.example:{desk.receiver.port}/", tenant="quick")
        desk.enqueue(99, "quick")
        await desk.deliver()
        assert desk.delivery(99).state == "delivered"
        never.set()
        await desk.until(lambda: not hanging)

    stage.run(play)


def test_a_delivery_that_cannot_be_made_is_a_failed_attempt_of_it_alone(stage, monkeypatch):
    real = delivery_worker.judge_url

    def broken(url, policy):
        if "broken" in url:
            raise RecursionError(url)
        return real(url, policy)

    monkeypatch.setattr(delivery_worker, "judge_url", broken)

    async def play(desk):
        desk.add_target("bad", f"http://127.0.0.1:{desk.receiver.port}/broken")
        desk.add_target("good")
        desk.enqueue(1, "bad")
        desk.enqueue(2, "good")
        for _ in range(4):
            await desk.deliver()
            desk.clock.advance(400)
        found = desk.delivery(1)
        assert (found.state, found.attempt, found.last_outcome) == ("failed", 3, "internal")
        assert desk.delivery(2).state == "delivered"
        assert len(desk.log.records(TOPICS.dlq)) == 1

    stage.run(play)


def test_a_round_that_fails_is_followed_by_the_next(stage, monkeypatch):
    monkeypatch.setattr(delivery_worker, "FAULT_S", 0.0)

    async def play(desk):
        desk.add_target()
        desk.enqueue()
        real, faults = desk.store.due_deliveries, [2]

        def broken(*args, **options):
            if faults[0]:
                faults[0] -= 1
                raise KeyError("a column that nobody knows")
            return real(*args, **options)

        monkeypatch.setattr(desk.store, "due_deliveries", broken)
        stop = StopFlag()
        running = asyncio.create_task(desk.deliverer.run(stop))
        await desk.until(lambda: desk.delivery().state == "delivered")
        stop.set()
        await running

    stage.run(play)
