"""`pickspin extend --classes`: heads for the class from labelled prompts; everything else stays."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from events.names import Operation
from functions.cli import main
from router_model.classifier import weights
from router_model.classifier.features import PromptFeatures
from router_model.training.complexity import (
    BadLabels,
    LabelledPrompt,
    cross_validated,
    fitted,
    learn_classes,
    read_labelled,
)
from router_model.training.dataset import TooLittleData

WORDS = {"low": "sum", "medium": "rain", "high": "prove"}


@pytest.fixture
def base(tmp_path: Path, make_tiny: Callable[[], Any]) -> Path:
    directory = tmp_path / "base"
    directory.mkdir()
    return Path(make_tiny().write(directory))


@pytest.fixture
def labelled() -> list[LabelledPrompt]:
    return [
        LabelledPrompt(prompt=" ".join([word] * (1 + number % 7)) + " the" * (number // 7), label=label)
        for number in range(20)
        for label, word in WORDS.items()
    ]  # fmt: skip


def asked(text: str) -> PromptFeatures:
    return PromptFeatures(operation=Operation.CHAT, text=text, tokens=1, least_tokens=1)


def test_labels_decide_the_class_of_both_stages(base, tmp_path, labelled) -> None:
    found = learn_classes(base, labelled, tmp_path / "out")
    assert (found.prompts, [one.stage for one in found.stages]) == (60, ["linear", "encoder"])
    for mode in ("linear", "transformer"):
        learned = weights.load_learned(tmp_path / "out", mode=mode)
        classes = {word: learned.classify(asked(word)).route_class for word in WORDS.values()}
        assert classes == {word: label for label, word in WORDS.items()}


def test_chances_lengths_gates_and_the_network_stay(base, tmp_path, labelled) -> None:
    learn_classes(base, labelled, tmp_path / "out")
    before, after = weights.read_manifest(base), weights.read_manifest(tmp_path / "out")
    assert before.files["encoder.onnx"] == after.files["encoder.onnx"]
    assert (before.band, before.linear_threshold) == (after.band, after.linear_threshold)
    assert after.training["classes"]["prompts"] == 60
    for name in (weights.LINEAR, weights.ENCODER):
        old, new = (
            weights.load_arrays(base, name, before),
            weights.load_arrays(tmp_path / "out", name, after),
        )
        assert new.keys() - old.keys() == {"complexity_weight", "complexity_bias"}
        assert all(np.array_equal(old[key], new[key]) for key in old)


def test_a_linear_map_is_found_again() -> None:
    inputs = np.random.default_rng(0).normal(size=(300, 4))
    classes = np.digitize(inputs[:, 0], [-0.5, 0.5])
    weight, bias = fitted(inputs, classes)
    assert ((inputs @ weight.T + bias).argmax(axis=1) == classes).mean() > 0.75
    assert cross_validated(inputs, np.random.default_rng(1).integers(0, 3, 300)) < 0.5


def test_too_few_prompts_and_a_class_without_any_are_refused(base, tmp_path, labelled) -> None:
    with pytest.raises(TooLittleData, match="9 labelled prompts; 30 are needed"):
        learn_classes(base, labelled[:9], tmp_path / "out")
    few = [each for each in labelled if each.label != "high"]
    with pytest.raises(TooLittleData, match="no prompt is labelled high"):
        learn_classes(base, few, tmp_path / "out")


@pytest.mark.parametrize(
    "line", ["{", '{"prompt": "p", "class": "huge"}', '{"prompt": "", "class": "low"}', "\udcff"]
)
def test_a_line_that_is_no_labelled_prompt_is_named(tmp_path, line: str) -> None:
    path = tmp_path / "labels.jsonl"
    good = '{"prompt": "p", "class": "low"}\n\n'
    path.write_bytes((good + line + "\n").encode("utf-8", "surrogateescape"))
    with pytest.raises(BadLabels, match="line 3"):
        read_labelled(path)
    with pytest.raises(BadLabels, match="cannot read"):
        read_labelled(tmp_path / "none")


def test_the_verb_writes_weights_and_says_how_good_they_are(
    base, tmp_path, labelled, capsys: Any
) -> None:
    path, out = tmp_path / "labels.jsonl", tmp_path / "out"
    rows = [json.dumps({"prompt": each.prompt, "class": each.label}) for each in labelled]
    path.write_text("\n".join(rows))
    command = ["extend", "--weights", str(base), "--out", str(out), "--classes"]
    assert main([*command, str(path)]) == 0
    assert "classes of 60 prompts; found right where kept apart: linear" in capsys.readouterr().out
    assert weights.load_learned(out, mode="linear").classify(asked("prove")).route_class == "high"
    assert main([*command, str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["classes"]["prompts"] == 60


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["none.jsonl"], 1, "cannot read none.jsonl"),
        (["none.jsonl", "--since", "7d"], 2, "name what to learn from"),
        (["none.jsonl", "--source", "a"], 2, "name what to learn from"),
    ],
)
def test_what_cannot_be_learned_is_one_plain_line(
    tmp_path, capsys: Any, arguments: list[str], status: int, said: str
) -> None:
    assert main(["extend", "--out", str(tmp_path / "w"), "--classes", *arguments]) == status
    assert said in capsys.readouterr().err
