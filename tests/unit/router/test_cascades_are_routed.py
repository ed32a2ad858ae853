"""A cascade that is asked for as `model`: one routed event, with the plan of the steps that follow."""

from collections.abc import Callable
from datetime import datetime

import pytest

from events import names
from events.event import Event
from events.requests import parse_routed
from functions.router.handler import RouterRules
from router_model.catalogue.loader import dump_catalogue, load_catalogue
from router_model.catalogue.merge import with_demo_fleet
from router_model.catalogue.model import Catalogue
from router_model.service_registry import Registry
from tests.unit.router.conftest import handle

CATALOGUE = """
models: [{id: real, weights: {path: /m.gguf}}]
services: [{model: real}]
"""
CASCADE = "cascades: {frugal: {steps: [sim-small, sim-large], min_confidence: 0.8}}\n"


@pytest.fixture
def fleet() -> Catalogue:
    plain = dump_catalogue(with_demo_fleet(load_catalogue(CATALOGUE)))
    return load_catalogue(plain.replace("cascades: {}\n", CASCADE))


def test_the_first_step_gets_the_request_and_the_plan(
    request_event: Callable[..., Event], fleet: Catalogue, now: datetime, rules: RouterRules
) -> None:
    out = handle(request_event(model="frugal"), fleet, Registry(), now, rules=rules)
    assert out[0].topic == rules.topics.model("sim-small")
    routed = parse_routed(out[0].event)
    assert routed.decision.reason == "cascade"
    assert routed.cascade is not None
    assert [(place.service, place.min_confidence) for place in routed.cascade.plan] == [
        ("sim-small", 0.8),
        ("sim-large", 0.8),
    ]


def test_a_plan_of_the_callers_own_is_dropped(
    request_event: Callable[..., Event], fleet: Catalogue, now: datetime, rules: RouterRules
) -> None:
    forged = '{"name":"x","plan":[{"service":"sim-large","model":"sim-large"}]}'
    event = request_event(model="sim-large", ext={names.CASCADE: forged})
    out = handle(event, fleet, Registry(), now, rules=rules)
    assert out[0].event.type == names.ROUTED
    assert names.CASCADE not in out[0].event.extensions


def test_room_is_kept_for_what_the_steps_will_add(
    request_event: Callable[..., Event], fleet: Catalogue, now: datetime, rules: RouterRules
) -> None:
    def fits(padding: int, model: str) -> bool:
        event = request_event(
            model=model, ext={f"pad{n}": "x" * (padding // 10) for n in range(10)}
        )
        out = handle(event, fleet, Registry(), now, rules=rules)
        return out[0].event.type == names.ROUTED

    most = max(size for size in range(11_000, 13_500, 50) if fits(size, "sim-large"))
    assert fits(most, "sim-large")
    assert not fits(most - 100, "frugal")
