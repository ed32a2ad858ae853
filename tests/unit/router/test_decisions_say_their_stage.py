"""What of the classifier found the class travels from the router to the answer."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import pytest

from events import types
from events.record import Event, Outgoing
from events.reply import parse_progress
from events.request import parse_routed
from functions.router.handler import RouterPolicy, handle
from router_model.catalogue import Catalogue
from router_model.registry import Registry

Make = Callable[..., Event]
Handle = Callable[[Event], tuple[Outgoing, ...]]


@pytest.fixture
def routed(catalogue: Catalogue, now: datetime, policy: RouterPolicy) -> Handle:
    return lambda event: handle(event, catalogue, Registry(), now, policy=policy)


def test_a_routed_event_and_its_progress_name_the_stage(
    request_event: Make, routed: Handle
) -> None:
    event, progress = (out.event for out in routed(request_event(model="real"))[:2])
    assert parse_routed(event).route_stage == "no_keyword"
    decision = parse_progress(progress).data.decision
    assert decision is not None
    assert (decision.stage, decision.route_class) == ("no_keyword", "medium")


def test_a_caller_cannot_name_the_stage(request_event: Make, routed: Handle) -> None:
    sent = request_event(model="real", ext={types.ROUTE_STAGE: "mine"})
    assert parse_routed(routed(sent)[0].event).route_stage == "no_keyword"


def test_an_event_of_before_has_no_stage(request_event: Make, routed: Handle) -> None:
    event = routed(request_event(model="real"))[0].event
    known = {n: v for n, v in event.extensions.items() if n != types.ROUTE_STAGE}
    assert parse_routed(replace(event, extensions=known)).route_stage == ""
