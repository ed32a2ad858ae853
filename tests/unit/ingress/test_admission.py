"""Admission and deadlines: pure verdicts."""

import pytest

from functions.ingress.admission import Load, TenantLimits, admit
from functions.ingress.api_keys import ApiKeys
from functions.ingress.broker_room import BrokerRoom, TerminalPosition
from functions.ingress.deadlines import Preference, choose_wait_s, parse_preference
from functions.ingress.main import check_exposure
from functions.ingress.murmur2 import choose_partition, murmur2
from functions.runtime.errors import ApiError, StartupFailed
from functions.runtime.settings import IngressSettings, Settings

CAPS = TenantLimits(max_waiters=2, tenant_streams=1, tenant_queue=3)


def test_below_every_limit_a_request_comes_in():
    admit(Load(waiters=1, tenant_queue=2), CAPS, is_stream=True)


@pytest.mark.parametrize(
    ("load", "is_stream", "code"),
    [
        (Load(waiters=2), False, "overloaded"),
        (Load(tenant_streams=1), True, "tenant_rate"),
        (Load(tenant_queue=3), False, "tenant_queue"),
    ],
)
def test_at_a_limit_the_next_one_is_refused(load, is_stream, code):
    with pytest.raises(ApiError) as refused:
        admit(load, CAPS, is_stream=is_stream)
    assert refused.value.code == code
    assert 1 <= int(refused.value.headers()["retry-after"]) <= 120


def hold(room, request_id, size, until_s=10.0, now_s=0.0):
    return room.hold(request_id, request_id.encode(), size, until_s=until_s, now_s=now_s)


def test_a_full_partition_refuses_and_the_others_do_not():
    room = BrokerRoom(100, lambda key: int(key[-1:]))
    hold(room, "a0", 80)
    with pytest.raises(ApiError):
        hold(room, "b0", 30)
    hold(room, "c1", 100)
    room.release("a0")
    hold(room, "d0", 30)
    assert room.total_bytes == 130


def test_the_same_request_is_counted_once_and_released_once():
    room = BrokerRoom(100, lambda key: 0)
    assert hold(room, "a", 60) is True
    assert hold(room, "a", 60) is False
    room.release("a")
    room.release("a")
    assert room.total_bytes == 0


def test_a_request_whose_end_was_never_seen_makes_room_after_its_deadline():
    room = BrokerRoom(100, lambda key: 0)
    hold(room, "a", 100, until_s=5.0)
    with pytest.raises(ApiError):
        hold(room, "b", 1, now_s=4.0)
    hold(room, "b", 1, now_s=5.0)


def test_what_the_recorder_has_not_read_keeps_its_room():
    room = BrokerRoom(100, lambda key: 0)
    hold(room, "a", 60)
    room.note_ends([TerminalPosition("a", 3, 7, 90)])
    assert (room.total_bytes, room.unread_bytes) == (60, 90)
    with pytest.raises(ApiError, match="overloaded"):
        hold(room, "b", 60)
    room.note_read({3: 7})
    assert room.total_bytes == 60
    room.note_read({0: 99, 3: 8})
    assert (room.total_bytes, room.unread_bytes) == (0, 0)
    hold(room, "b", 60)


def test_a_recorder_that_is_far_behind_closes_the_door():
    room = BrokerRoom(100, lambda key: int(key[-1:]))
    room.note_ends([TerminalPosition("foreign", 2, n, 40) for n in range(3)])
    with pytest.raises(ApiError, match="recorded"):
        hold(room, "a0", 1)
    room.note_read({2: 1})
    hold(room, "a0", 1)


def test_a_durable_broker_forgets_nothing_that_was_not_read():
    room = BrokerRoom(None, lambda key: 0)
    room.note_ends([TerminalPosition("a", 0, n, 10**9) for n in range(9)])
    assert room.unread_bytes == 0
    assert hold(room, "b", 1) is False


def test_a_durable_broker_counts_nothing():
    room = BrokerRoom(None, lambda key: 0)
    assert hold(room, "a", 10**12) is False


@pytest.mark.parametrize(
    ("key", "hashed"),
    [(b"21", -973932308), (b"foobar", -790332482), (b"a-little-bit-long-string", -985981536)],
)
def test_the_partitioner_is_kafkas_own(key, hashed):
    """Values of Apache Kafka's own test of its hash."""
    assert murmur2(key) == hashed % 2**32


def test_the_partitioner_agrees_with_the_client_that_appends():
    default = pytest.importorskip("kafka.partitioner.default")
    for number in range(200):
        key = f"req_{number:032x}"[: 1 + number % 36].encode()
        assert murmur2(key) == default.murmur2(key) % 2**32
        assert 0 <= choose_partition(key, 7) < 7


@pytest.mark.parametrize(
    ("headers", "reads_at_once", "expected"),
    [
        ({}, True, 115.0),
        ({"x-pickspin-deadline-s": "5"}, True, 5.0),
        ({"x-pickspin-deadline-s": "1e9"}, True, 115.0),
        ({"x-stainless-read-timeout": "60"}, True, 58.75),
        ({"x-stainless-read-timeout": "1"}, True, 0.9),
        ({"x-stainless-read-timeout": "60"}, False, 115.0),
        ({"x-stainless-read-timeout": "not given"}, True, 115.0),
        ({"x-stainless-read-timeout": "-1"}, True, 115.0),
        ({"x-pickspin-deadline-s": "5", "x-stainless-read-timeout": "3"}, True, 2.7),
    ],
)
def test_the_least_bound_counts(headers, reads_at_once, expected):
    found = choose_wait_s(headers, ours_s=115.0, reads_at_once=reads_at_once)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, Preference()),
        ("respond-async", Preference(is_async=True)),
        ("Respond-Async", Preference(is_async=True)),
        ("wait=10", Preference(wait_s=10.0)),
        ("respond-async, wait=10", Preference(wait_s=10.0)),
        ('wait="10"', Preference(wait_s=10.0)),
        ("wait=9999", Preference(wait_s=100.0)),
        ("wait=-1", Preference()),
        ("wait=soon, handling=lenient", Preference()),
    ],
)
def test_prefer_is_read_as_the_rfc_asks(text, expected):
    assert parse_preference(text, longest_s=100.0) == expected


def test_without_keys_only_this_machine_is_served():
    check_exposure(Settings(), has_keys=False)
    elsewhere = Settings(ingress=IngressSettings(host="0.0.0.0"))
    check_exposure(elsewhere, has_keys=True)
    with pytest.raises(StartupFailed):
        check_exposure(elsewhere, has_keys=False)


@pytest.mark.parametrize("text", ["secret", "=secret", "me=", "a=b,secret"])
def test_keys_that_are_none_stop_the_start_without_being_shown(text):
    with pytest.raises(StartupFailed) as failed:
        ApiKeys.parse(text)
    assert "secret" not in str(failed.value)


@pytest.mark.parametrize("text", ["one=secret,two=secret", "one=secret, b=x ,one=secret"])
def test_one_key_for_two_entries_stops_the_start_without_being_shown(text):
    with pytest.raises(StartupFailed, match=r"entries 1 and [23]") as failed:
        ApiKeys.parse(text)
    assert "secret" not in str(failed.value)
