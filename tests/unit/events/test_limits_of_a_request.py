"""Limits of a request as attributes and in its body: plain decimals, checked strictly, attributes first."""

import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events import names
from events.decimal_text import read_amount
from events.errors import EventRejected
from events.event import Event
from events.requests import InferenceRequest, parse_request


def parsed(
    attributes: Mapping[str, str] | None = None, pickspin: object = None
) -> InferenceRequest:
    body = {"prompt": "x"} if pickspin is None else {"prompt": "x", "pickspin": pickspin}
    event = Event(
        id="req_1",
        source="/shop",
        type=names.REQUEST,
        time="2026-11-21T12:00:00Z",
        data=json.dumps(body).encode(),
        extensions=dict(attributes or {}),
    )
    return parse_request(event, default_wait_s=60)


def limits_of(found: InferenceRequest) -> tuple[float | None, float | None, float | None]:
    return found.max_cost_usd, found.max_latency_s, found.min_quality


@given(st.decimals(0, 999_999, places=6))
def test_a_plain_decimal_is_its_number(number) -> None:
    assert read_amount(f"{number:f}", "maxcost") == float(number)


@pytest.mark.parametrize(
    "text",
    ["", " ", "-1", "+1", "1e3", "nan", "inf", "0x1", ".5", "1.", "1,5", "1 ", "٣", "1_000",
     "1" * 10, "0." + "0" * 13, "USD 1"],
)  # fmt: skip
def test_anything_else_is_refused_by_name(text: str) -> None:
    with pytest.raises(EventRejected) as caught:
        read_amount(text, "maxcost")
    assert (caught.value.code, caught.value.attribute) == ("invalid_value", "maxcost")


def test_a_chance_is_at_most_one() -> None:
    assert parsed({"minquality": "1"}).min_quality == 1
    with pytest.raises(EventRejected, match="from 0 to 1"):
        parsed({"minquality": "1.01"})


def test_attributes_are_limits() -> None:
    found = parsed({"maxcost": "0.002", "maxlatency": "5", "minquality": "0.75"})
    assert limits_of(found) == (0.002, 5, 0.75)
    assert limits_of(parsed()) == (None, None, None)


def test_the_body_may_say_them_and_attributes_win() -> None:
    wishes = {"max_cost": 1, "max_latency": 2.5, "min_quality": 0.5, "profile": "cost"}
    found = parsed(pickspin=wishes)
    assert limits_of(found) == (1.0, 2.5, 0.5)
    assert found.profile == "cost"
    found = parsed({"maxcost": "0", "profile": "speed"}, wishes)
    assert limits_of(found) == (0.0, 2.5, 0.5)
    assert found.profile == "speed"


@pytest.mark.parametrize(
    ("wishes", "attribute"),
    [
        ({"max_cost": -1}, "pickspin.max_cost"),
        ({"max_latency": "5"}, "pickspin.max_latency"),
        ({"min_quality": 2}, "pickspin.min_quality"),
        ({"min_quality": True}, "pickspin.min_quality"),
        ({"max_price": 1}, "pickspin"),
        ([], "pickspin"),
        ("cheap", "pickspin"),
    ],
)
def test_a_body_that_wishes_nonsense_is_refused(wishes: object, attribute: str) -> None:
    with pytest.raises(EventRejected) as caught:
        parsed(pickspin=wishes)
    assert (caught.value.code, caught.value.attribute) == ("invalid_value", attribute)


def test_nulls_are_no_wishes() -> None:
    assert limits_of(parsed(pickspin={"max_cost": None, "profile": None})) == (None, None, None)
