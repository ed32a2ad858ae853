"""The demo fleet's page: each prompt goes where it says, by the shipped weights, whatever of the fleet is warm."""

import re
import shlex
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

from events.names import Operation
from functions.cli import main
from router_model.catalogue.loader import load_catalogue
from router_model.catalogue.merge import with_demo_fleet
from router_model.catalogue.model import Catalogue
from router_model.classifier.features import extract_features
from router_model.classifier.hybrid import LearnedClassifier
from router_model.classifier.weights import load_learned
from router_model.replay.replayed_decisions import assume_registry
from router_model.routing.context import RouteRequest, RoutingContext
from router_model.routing.select import decide
from router_model.service_registry import Registry

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/how-to/add-a-model.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"^pickspin (route --fleet demo .*?) +# (\S+)$", PAGE, re.MULTILINE)
REAL = "smollm2-135m-instruct"


@pytest.mark.parametrize(("command", "service"), SHOWN)
def test_each_command_of_the_page_names_the_service_that_it_says(
    capsys: Any, command: str, service: str
) -> None:
    assert main(shlex.split(command)) == 0
    assert capsys.readouterr().out.split()[0] == service


def test_the_page_shows_a_class_a_tier_and_a_profile() -> None:
    assert [service for _, service in SHOWN] == ["sim-small", "sim-large", "sim-small"]
    assert ["--profile" in command for command, _ in SHOWN] == [False, False, True]


@pytest.fixture(scope="module")
def fleet() -> Catalogue:
    text = (ROOT / "functions/local/catalogue.yaml").read_text(encoding="utf-8")
    return with_demo_fleet(load_catalogue(text))


@pytest.fixture(scope="module")
def shipped() -> LearnedClassifier:
    return load_learned(mode="transformer")


@pytest.mark.parametrize("before", [(), (REAL,)], ids=["at first", "after the real model"])
def test_one_after_the_other_they_go_the_same_way(
    fleet: Catalogue, shipped: LearnedClassifier, before: tuple[str, ...]
) -> None:
    """Each finds warm what the ones before it have woken; twice over."""
    now = datetime.now(UTC)
    every = assume_registry(fleet, "warm", now).entries
    woken = accumulate([*SHOWN, *SHOWN], lambda seen, one: {*seen, one[1]}, initial={*before})
    for (command, service), warm in zip([*SHOWN, *SHOWN], woken, strict=False):
        registry = Registry({key: one for key, one in every.items() if key[0] in warm})
        words = shlex.split(command)
        body = {"messages": [{"role": "user", "content": words[-1]}]}
        asked = RouteRequest(
            model="auto",
            features=extract_features(Operation.CHAT, body),
            profile=words[-2] if "--profile" in words else None,
        )
        assert (
            decide(
                asked,
                RoutingContext(catalogue=fleet, registry=registry, now=now, classifier=shipped),
            ).service
            == service
        ), warm


def test_a_fleet_whose_names_are_taken_is_refused_in_a_line(capsys: Any, tmp_path: Path) -> None:
    path = tmp_path / "catalogue.yaml"
    path.write_text(
        "models: [{id: sim-small, weights: {url: 'http://h/v1'}}]\n"
        "services: [{model: sim-small, backend: {kind: openai}}]\n"
    )
    assert main(["route", "hi", "--fleet", "demo", "--catalogue", str(path)]) == 1
    assert "--fleet does not fit the catalogue" in capsys.readouterr().err
