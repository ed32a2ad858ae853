"""A model that the weights do not know learns from a few labels, and everything else stays as it was."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from events.names import Operation
from router_model.classifier.features import extract_features
from router_model.classifier.weights import WeightsUnusable, load_learned
from router_model.replay.outcome_dataset import OutcomeRow
from router_model.training.add_models import extend
from router_model.training.dataset import TooLittleData

PROVE, RAIN = "prove it {}", "rain is rain {}"


@pytest.fixture
def base(tmp_path: Path, make_tiny: Callable[[], Any]) -> Path:
    directory = tmp_path / "base"
    directory.mkdir()
    return Path(make_tiny().write(directory))


def rows(
    count: int, source: str = "mine", name: str = "new", *, is_wrong: bool = False
) -> list[OutcomeRow]:
    """Right wherever something is to be proved, wrong elsewhere; never right with `is_wrong`."""
    return [
        OutcomeRow(
            id=f"{number}",
            source=source,
            benchmark="mine",
            qkey=f"{number}",
            prompt=(PROVE if number % 2 else RAIN).format(number),
            outcomes={name: 0.0 if is_wrong else float(number % 2)},
        )
        for number in range(count)
    ]


def chance(directory: Path, prompt: str, name: str = "new") -> float | None:
    body = {"messages": [{"role": "user", "content": prompt}]}
    features = extract_features(Operation.CHAT, body)
    return (
        load_learned(directory, mode="linear").classify(features, (name, "large")).success.get(name)
    )


def test_what_it_is_right_at_shows_in_its_chances(base: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = extend(base, rows(200), out, tiers={"new": "L2"})
    assert [("new", "L2", 200)] == [(each.name, each.tier, each.labels) for each in found]
    easy, hard = chance(out, PROVE.format(7)), chance(out, RAIN.format(7))
    assert easy is not None
    assert hard is not None
    assert easy > hard + 0.2


def test_other_models_keep_their_chances(base: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    extend(base, rows(60), out, tiers={})
    for name in ("small", "large"):
        assert chance(base, PROVE.format(1), name) == chance(out, PROVE.format(1), name)


def test_a_model_that_is_known_is_learned_anew(base: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    extend(base, rows(200, name="large", is_wrong=True), out, tiers={})
    before, after = chance(base, PROVE.format(1), "large"), chance(out, PROVE.format(1), "large")
    assert before is not None
    assert after is not None
    assert after < before / 2


def test_the_manifest_says_what_was_added_to_what(base: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    extend(base, rows(60), out, tiers={})
    training = json.loads((out / "manifest.json").read_bytes())["training"]
    assert {"labels": 60, "tier": "L1"} == training["added"]["new"]
    assert "extends" in training


def test_too_few_labels_are_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(TooLittleData, match="no model has 40 rated answers"):
        extend(base, rows(39), tmp_path / "out", tiers={})


def test_sources_for_evaluation_only_teach_nothing(base: Path, tmp_path: Path) -> None:
    with pytest.raises(TooLittleData):
        extend(base, rows(60, source="alpacaeval2_nc"), tmp_path / "out", tiers={})


def test_without_weights_there_is_nothing_to_add_to(tmp_path: Path) -> None:
    with pytest.raises(WeightsUnusable):
        extend(tmp_path, rows(60), tmp_path / "out", tiers={})
