import asyncio

import pytest
from standardwebhooks import Webhook

from events.codecs.kafka_codec import from_record
from events.names import CALLBACK_FAILED
from functions.callbacks.url_policy import CallbackPolicy
from functions.callbacks.webhook_client import WebhookAnswer
from functions.runtime.errors import AppendFailed
from functions.runtime.system_clock import SystemClock
from tests.unit.callbacks.conftest import SECRET, START, TOPICS, answer


def test_a_delivery_is_posted_signed_and_marked(stage):
    async def play(desk):
        desk.clock = SystemClock()
        desk.deliverer = desk.new_deliverer()
        desk.add_target()
        desk.enqueue()
        await desk.deliver()
        (got,) = desk.receiver.received
        assert (got.method, got.path) == ("POST", "/hook?x=1")
        assert got.headers["host"] == f"127.0.0.1:{desk.receiver.port}"
        assert got.headers["webhook-id"] == "d1"
        assert got.headers["content-type"] == "application/json"
        Webhook(SECRET).verify(got.body, got.headers)
        found = desk.delivery()
        assert (found.state, found.attempt, found.last_outcome) == ("delivered", 1, "status 204")

    stage.run(play)


def test_a_failed_attempt_is_repeated_with_the_same_id_and_body(stage):
    async def play(desk):
        desk.add_target()
        desk.enqueue()
        await desk.deliver()
        assert desk.delivery().state == "pending"
        await desk.deliver()
        assert len(desk.receiver.received) == 1, "not before its time"
        desk.clock.advance(5)
        await desk.deliver()
        first, second = desk.receiver.received
        assert first.headers["webhook-id"] == second.headers["webhook-id"]
        assert first.body == second.body
        assert first.headers["webhook-signature"] != second.headers["webhook-signature"]
        assert desk.delivery().state == "delivered"

    stage.run(play, script=[answer(500), answer(200, body=b"ok")])


def test_after_the_last_attempt_the_failure_is_on_the_dead_letter_topic(stage):
    async def play(desk):
        desk.add_target()
        desk.enqueue()
        for _ in range(5):
            await desk.deliver()
            desk.clock.advance(400)
        assert len(desk.receiver.received) == 3
        found = desk.delivery()
        assert (found.state, found.attempt, found.last_outcome) == ("failed", 3, "status 503")
        (record,) = desk.log.records(TOPICS.dlq)
        event = from_record(record)
        assert (event.type, event.subject, record.key) == (CALLBACK_FAILED, "r1", b"r1")
        assert b'"attempts":3' in event.data

    stage.run(play, script=[answer(503)])


def test_without_a_dead_letter_topic_the_receiver_is_not_called_for_ever(stage):
    async def play(desk):
        desk.log.fail_next(TOPICS.dlq, AppendFailed("no such topic", is_unroutable=True))
        desk.add_target()
        desk.enqueue()
        for _ in range(6):
            await desk.deliver()
            desk.clock.advance(400)
        assert len(desk.receiver.received) == 3
        assert desk.delivery().state == "failed"

    stage.run(play, script=[answer(503)])


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_a_failure_and_is_not_followed(stage, status):
    async def play(desk):
        desk.add_target()
        desk.enqueue()
        desk.receiver.script = [
            answer(status, f"Location: http://127.0.0.1:{desk.receiver.port}/elsewhere")
        ]
        await desk.deliver()
        assert desk.receiver.connections == 1
        assert desk.delivery().last_outcome == f"status {status}"

    stage.run(play)


def test_410_disables_the_target(stage):
    async def play(desk):
        desk.add_target()
        desk.enqueue(1)
        await desk.deliver()
        assert desk.delivery(1).state == "failed"
        assert desk.store.target("t1").is_disabled
        desk.enqueue(2)
        await desk.deliver()
        assert desk.receiver.connections == 1
        assert desk.delivery(2).last_outcome == "target_gone"

    stage.run(play, script=[answer(410)])


def test_a_wait_asked_for_is_obeyed(stage):
    async def play(desk):
        desk.add_target()
        desk.enqueue()
        await desk.deliver()
        assert (desk.delivery().due_at - START).total_seconds() == 120

    stage.run(play, script=[answer(429, "Retry-After: 120")])


async def endless(writer):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()


async def trickle_body(writer):
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


async def trickle_head(writer):
    writer.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


async def endless_head(writer):
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X-More: y\r\n" * 1000)
        await writer.drain()


async def silence(writer):
    await asyncio.sleep(3600)


async def hang_up(writer):
    writer.close()


@pytest.mark.parametrize(
    ("step", "outcome"),
    [
        (endless, "status 200"),
        (trickle_body, "status 200"),
        (trickle_head, "timeout"),
        (endless_head, "protocol"),
        (silence, "timeout"),
        (hang_up, "protocol"),
        (b"not http at all\r\n\r\n", "protocol"),
        (b"HTTP/1.1 twohundred OK\r\n\r\n", "protocol"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", "protocol"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nbomb",
            "status 200",
        ),
        (b"HTTP/1.1 204 No Content\r\n\r\nbody all the same", "status 204"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort", "status 200"),
    ],
    ids=lambda value: getattr(value, "__name__", None) or repr(value)[:40],
)
def test_a_strange_receiver_costs_one_bounded_attempt(stage, step, outcome):
    async def play(desk):
        desk.add_target()
        desk.enqueue()
        await desk.deliver()
        assert desk.delivery().last_outcome == outcome

    stage.run(play, script=[step], timeout_s=0.5)


def test_a_receiver_that_is_down_is_tried_again(stage):
    async def play(desk):
        await desk.receiver.stop()
        desk.add_target()
        desk.enqueue()
        await desk.deliver()
        assert (desk.delivery().state, desk.delivery().last_outcome) == ("pending", "connect")

    stage.run(play)


def test_what_a_receiver_says_is_kept_nowhere(stage, caplog):
    async def play(desk):
        desk.add_target()
        desk.enqueue()
        with caplog.at_level("DEBUG", logger="functions"):
            await desk.deliver()
        assert "my-secret-echo" not in desk.delivery().last_outcome
        assert "my-secret-echo" not in caplog.text
        assert SECRET not in caplog.text

    stage.run(play, script=[answer(500, "X-Echo: my-secret-echo", body=b"my-secret-echo")])


def test_proxy_variables_of_the_environment_change_nothing(stage, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    async def play(desk):
        desk.add_target()
        desk.enqueue()
        await desk.deliver()
        assert desk.delivery().state == "delivered"

    stage.run(play)


def test_a_name_is_resolved_once_and_the_judged_address_is_called(stage):
    async def play(desk):
        desk.add_target(url=f"http://hooks.example.com:{desk.receiver.port}/a")
        desk.names["hooks.example.com"] = [["127.0.0.1"], ["10.255.255.1"]]
        desk.enqueue()
        await desk.deliver()
        (got,) = desk.receiver.received
        assert got.headers["host"] == f"hooks.example.com:{desk.receiver.port}"
        assert desk.names["hooks.example.com"] == [["10.255.255.1"]]

    stage.run(play)


@pytest.mark.parametrize(
    ("addresses", "outcome"),
    [
        (["127.0.0.1"], "callback_url_refused"),
        (["93.184.215.14", "10.0.0.1"], "callback_url_refused"),
        (["::ffff:127.0.0.1"], "callback_url_refused"),
        ([], "dns"),
    ],
)
def test_a_name_that_leads_inside_is_never_connected_to(stage, addresses, outcome):
    async def play(desk):
        desk.add_target(url=f"http://hooks.example.com:{desk.receiver.port}/a")
        desk.names["hooks.example.com"] = addresses
        desk.enqueue()
        await desk.deliver()
        assert desk.receiver.connections == 0
        found = desk.delivery()
        assert (found.state, found.last_outcome) == ("pending", outcome)

    stage.run(play, policy=CallbackPolicy(may_use_http=True, ports=None))


def test_a_url_that_the_policy_no_longer_allows_is_given_up(stage):
    async def play(desk):
        desk.add_target()
        desk.enqueue()
        await desk.deliver()
        assert desk.receiver.connections == 0
        found = desk.delivery()
        assert (found.state, found.last_outcome) == ("failed", "callback_url_refused")

    stage.run(play, policy=CallbackPolicy())


class Forgetful:
    """A store whose process is killed between the POST and the mark."""

    def __init__(self, store):
        self.store = store

    def __getattr__(self, name):
        return getattr(self.store, name)

    def update_delivery(self, delivery):
        raise asyncio.CancelledError


def test_killed_after_the_post_the_same_id_is_posted_again(stage):
    async def play(desk):
        desk.add_target()
        desk.enqueue()
        desk.deliverer = desk.new_deliverer(Forgetful(desk.store))
        await desk.deliver()
        assert len(desk.receiver.received) == 1
        desk.deliverer = desk.new_deliverer()
        await desk.deliver()
        assert len(desk.receiver.received) == 1, "its lease has not run out"
        desk.clock.advance(60)
        await desk.deliver()
        assert [got.headers["webhook-id"] for got in desk.receiver.received] == ["d1", "d1"]
        assert desk.delivery().state == "delivered"

    stage.run(play)


def test_a_slow_target_holds_up_no_other(stage):
    async def play(desk):
        desk.receiver.hold = asyncio.Event()
        desk.add_target("slow")
        for number in range(10):
            desk.enqueue(number, "slow")
        assert await desk.deliverer.start_due() == desk.limits.per_target
        other = type(desk.receiver)()
        await other.start()
        try:
            desk.add_target("quick", url=f"http://127.0.0.1:{other.port}/")
            desk.enqueue(99, "quick")
            assert await desk.deliverer.start_due() == 1
            await asyncio.wait(
                desk.deliverer._running, timeout=5, return_when=asyncio.FIRST_COMPLETED
            )
            assert desk.delivery(99).state == "delivered"
        finally:
            await other.stop()
        assert desk.receiver.most_at_once <= desk.limits.per_target
        desk.receiver.hold.set()
        await desk.deliverer.finish()
        await desk.deliver()
        assert len(desk.receiver.received) == 10

    stage.run(play, timeout_s=10.0)


def put_back_of(desk):
    """Those of the first twelve that found no place and are due later."""
    found = ((number, desk.delivery(number)) for number in range(12))
    now = desk.clock.now()
    return [number for number, one in found if one.state == "pending" and one.due_at > now]


def test_many_targets_at_one_host_are_bounded_together(stage):
    async def play(desk):
        per_host = desk.limits.per_host
        desk.receiver.hold = asyncio.Event()
        for number in range(12):
            desk.add_target(f"t{number}", tenant=f"tenant {number % 4}")
            desk.enqueue(number, f"t{number}")
        assert await desk.deliverer.start_due() == 12
        await desk.receiver.has_received(per_host)
        # The others must have found no place before one comes free.
        await desk.until(lambda: len(put_back_of(desk)) == 12 - per_host)
        desk.receiver.hold.set()
        await desk.deliverer.finish()
        assert desk.receiver.most_at_once == per_host
        put_back = put_back_of(desk)
        assert len(put_back) == 4
        assert {desk.delivery(n).attempt for n in put_back} == {0}
        desk.clock.advance(10)
        await desk.deliver()
        assert len(desk.receiver.received) == 12

    stage.run(play, timeout_s=10.0)


def test_a_receiver_down_for_an_hour_gets_each_delivery_once(stage):
    async def play(desk):
        desk.add_target()
        for number in range(3):
            desk.enqueue(number)
        real = desk.client.post

        async def down(request):
            return WebhookAnswer(failure="connect")

        desk.client.post = down
        for _ in range(10):
            await desk.deliver()
            desk.clock.advance(360)
        desk.client.post = real
        for _ in range(30):
            desk.clock.advance(360)
            await desk.deliver()
        ids = [got.headers["webhook-id"] for got in desk.receiver.received]
        assert sorted(ids) == ["d0", "d1", "d2"]

    stage.run(play, delays=(0.0, 5.0, 300.0, 1800.0, 7200.0))


def test_a_disabled_target_gets_nothing(stage):
    async def play(desk):
        desk.add_target(is_disabled=True)
        desk.enqueue()
        await desk.deliver()
        assert desk.receiver.connections == 0
        assert desk.delivery().state == "failed"

    stage.run(play)
