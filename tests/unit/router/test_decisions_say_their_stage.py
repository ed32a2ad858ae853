"""What of the classifier found the class travels from the router to the answer."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import msgspec
import pytest

from events import names
from events.builders import parse_progress
from events.event import Event, Outgoing
from events.requests import parse_routed
from functions.router.handler import RouterRules
from router_model.catalogue.model import Catalogue
from router_model.classifier.keyword_rules import Classification
from router_model.service_registry import Registry
from tests.unit.router.conftest import handle

Make = Callable[..., Event]
Handle = Callable[[Event], tuple[Outgoing, ...]]


@pytest.fixture
def routed(catalogue: Catalogue, now: datetime, rules: RouterRules) -> Handle:
    return lambda event: handle(event, catalogue, Registry(), now, rules=rules)


def test_a_routed_event_and_its_progress_name_the_stage(
    request_event: Make, routed: Handle
) -> None:
    event, progress = (out.event for out in routed(request_event(model="real"))[:2])
    assert parse_routed(event).decision.stage == "no_keyword"
    decision = parse_progress(progress).data.decision
    assert decision is not None
    assert (decision.stage, decision.route_class) == ("no_keyword", "medium")


def test_a_caller_cannot_name_the_stage(request_event: Make, routed: Handle) -> None:
    sent = request_event(model="real", ext={names.ROUTE_STAGE: "mine"})
    assert parse_routed(routed(sent)[0].event).decision.stage == "no_keyword"


def test_an_event_of_before_has_no_stage(request_event: Make, routed: Handle) -> None:
    event = routed(request_event(model="real"))[0].event
    known = {n: v for n, v in event.extensions.items() if n != names.ROUTE_STAGE}
    assert parse_routed(replace(event, extensions=known)).decision.stage is msgspec.UNSET


class Abstaining:
    """As the learned classifier where it cannot judge."""

    def classify(self, features: object, models: object = ()) -> Classification:
        return Classification("medium", "abstained")


def test_a_decision_that_was_not_judged_says_so_in_words(
    request_event: Make, catalogue: Catalogue, now: datetime, rules: RouterRules
) -> None:
    event = request_event(model="real")
    out = handle(event, catalogue, Registry(), now, rules=rules, classifier=Abstaining())
    said = "the learned stage could not judge this prompt; the keyword rules decided: medium"
    shown = parse_progress(out[1].event).data.decision
    assert shown is not None
    assert shown.explanation == said
    in_answer = parse_routed(out[0].event).decision
    assert (in_answer.explanation, in_answer.stage) == (said, "abstained")


def test_a_decision_that_was_judged_needs_no_words(request_event: Make, routed: Handle) -> None:
    event, progress = (out.event for out in routed(request_event(model="real"))[:2])
    shown = parse_progress(progress).data.decision
    assert shown is not None
    assert shown.explanation is msgspec.UNSET
    assert parse_routed(event).decision.explanation is msgspec.UNSET
