import uuid
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from events import ids
from events.errors import EventRejected
from events.timestamps import canonical, from_rfc3339, to_rfc3339

NOON = datetime(2026, 11, 21, 12, 0, 0, 123_999, tzinfo=UTC)


def test_a_request_id_is_a_uuid_of_version_7_with_its_instant() -> None:
    found = ids.new_request_id(NOON, bytes(range(10)))
    value = uuid.UUID(found.removeprefix("req_"))
    assert (value.version, value.variant) == (7, uuid.RFC_4122)
    assert value.int >> 80 == int(NOON.timestamp() * 1000)
    assert ids.is_valid_id(found)


def test_request_ids_sort_by_time_and_differ_by_entropy() -> None:
    earlier, later = (
        ids.new_request_id(NOON + timedelta(milliseconds=n), b"\xff" * 10) for n in (0, 1)
    )
    assert earlier < later
    assert ids.new_request_id(NOON, b"\x00" * 10) != ids.new_request_id(NOON, b"\x00" * 9 + b"\x01")


def test_a_request_id_needs_entropy_and_an_aware_instant() -> None:
    with pytest.raises(ValueError):
        ids.new_request_id(NOON, b"short")
    with pytest.raises(ValueError):
        ids.new_request_id(NOON.replace(tzinfo=None), bytes(10))


def test_derived_ids_never_change() -> None:
    assert ids.derive("req_1", "terminal", "completed") == "3d33d731-b153-564f-9eff-ecff63a4fd81"
    assert ids.derive("req_1", "chunk", "g", 1) == ids.derive("req_1", "chunk", "g", "1")
    assert ids.derive("a", "b", "c") != ids.derive("a", "bc")


def test_hashes_tell_operations_and_bodies_apart() -> None:
    assert (
        ids.content_hash(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )
    assert (
        len({ids.body_hash(op, body) for op in ("chat", "completions") for body in (b"a", b"b")})
        == 4
    )


@pytest.mark.parametrize(
    ("text", "is_valid"),
    [
        ("a", True),
        ("!~", True),
        ("a" * 128, True),
        ("a" * 129, False),
        ("", False),
        ("a b", False),
        ("a\n", False),
        ("é", False),
        ("\x7f", False),
    ],
)
def test_ids_are_visible_ascii(text: str, is_valid: bool) -> None:
    assert ids.is_valid_id(text) is is_valid


@pytest.mark.parametrize(
    ("text", "is_good"),
    [
        ("order 12", True),
        ("Zürich/7?x#y", True),
        ("a" * 256, True),
        ("a" * 257, False),
        (" a", False),
        ("a\u3000", False),
        ("a\tb", False),
        ("a\ufffe", False),
        ("", False),
    ],
)
def test_an_event_may_be_known_by_any_text(text: str, is_good: bool) -> None:
    assert ids.is_event_id(text) is is_good


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-11-21T12:00Z", "2026-11-21T12:00:00.000Z"),
        ("2026-11-21T14:00+02:00", "2026-11-21T12:00:00.000Z"),
        ("2026-11-21t12:00:00z", "2026-11-21T12:00:00.000Z"),
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00.000Z"),
        ("2017-01-01T00:59:60.5+01:00", "2017-01-01T00:00:00.500Z"),
    ],
)
def test_what_other_sdks_write_becomes_the_full_form(text: str, instant: str) -> None:
    assert to_rfc3339(from_rfc3339(text)) == instant
    assert canonical(text) == instant


def test_instants_have_milliseconds_in_utc() -> None:
    assert to_rfc3339(NOON) == "2026-11-21T12:00:00.123Z"
    assert (
        to_rfc3339(NOON.astimezone(timezone(timedelta(hours=5, minutes=30))))
        == "2026-11-21T12:00:00.123Z"
    )
    with pytest.raises(ValueError):
        to_rfc3339(NOON.replace(tzinfo=None))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-11-21",
        "2026-11-21T12:00:00",
        "2026-11-21 12:00:00Z",
        "20261121T120000Z",
        "2026-W47-6T12:00:00Z",
        "2026-02-30T00:00:00Z",
        "2026-11-21T24:00:00Z",
        "2026-11-21T12:00:60Z",
        "2026-11-21T12:00:00Z\n",
        "0000-01-01T00:00:00Z",
        "9999-12-31T23:59:59-01:00",
        "9999-12-31T23:59:60Z",
        "2026-11-21T12:00.5Z",
        "0001-01-01T00:00:00+01:00",
        "\uff12026-11-21T12:00:00Z",
        "1795262400",
    ],
)
def test_what_is_no_instant_is_refused(text: str) -> None:
    with pytest.raises(EventRejected) as caught:
        from_rfc3339(text, "time")
    assert caught.value.attribute == "time"


def test_canonical_text_is_kept_in_utc_and_converted_otherwise() -> None:
    assert canonical("2026-11-21T12:00:00.123456789Z") == "2026-11-21T12:00:00.123456789Z"
    assert canonical("2026-11-21T12:00:00.5+02:00") == "2026-11-21T10:00:00.500Z"


@given(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31), timezones=st.just(UTC)))  # noqa: DTZ001 - bounds are naive by contract
@settings(deadline=None)
def test_instants_come_back_to_the_millisecond(instant: datetime) -> None:
    assert from_rfc3339(to_rfc3339(instant)) == instant.replace(
        microsecond=instant.microsecond // 1000 * 1000
    )
