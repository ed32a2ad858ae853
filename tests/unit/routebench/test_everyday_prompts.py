"""The everyday suite: its prompts are whole, its halves are fixed, its figures are counted right."""

import hashlib
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.routebench.everyday_prompts import EverydayPrompt, load_everyday, prompts_to_learn
from benchmarks.routebench.everyday_scores import score_everyday
from benchmarks.routebench.off_distribution import strange_prompts
from benchmarks.routebench.ours import ShippedRouter
from benchmarks.routebench.stages import DEFAULT
from router_model.classifier.keyword_rules import Classification, KeywordClassifier
from router_model.classifier.weights import SHIPPED, load_learned, read_manifest
from router_model.training.complexity import LabelledPrompt, digest_of

ROOT = Path(__file__).parents[3]
SPLIT = "262965da"
"""Of the sorted held-out prompts: another split is another suite."""


@pytest.fixture(scope="module")
def prompts() -> tuple[EverydayPrompt, ...]:
    return load_everyday()


def test_the_prompts_are_many_distinct_and_each_has_a_reason(prompts) -> None:
    assert len(prompts) >= 200
    assert len({each.prompt for each in prompts}) == len(prompts)
    assert all(each.why.strip() and "\n" not in each.why for each in prompts)
    assert min(Counter(each.label for each in prompts).values()) >= 50
    assert len({each.kind for each in prompts}) >= 12
    assert len({each.language for each in prompts}) >= 10


def test_the_halves_are_fixed_and_each_holds_every_class(prompts) -> None:
    for half in ("dev", "held_out"):
        assert len({each.label for each in prompts if each.half == half}) == 3
    held_out = sorted(each.prompt for each in prompts if each.half == "held_out")
    assert hashlib.sha256("\n".join(held_out).encode()).hexdigest()[:8] == SPLIT


def prompt(text: str, label: str) -> EverydayPrompt:
    return EverydayPrompt(prompt=text, label=label, why="w", kind="k", language="en")


class ByFirstWord:
    def classify(self, features, models=()):
        assert len(models) > 1
        word, _, reason = features.text.partition(" ")
        return Classification(word, reason, tier_success={"L1": 0.5} if reason == "linear" else {})


def test_shares_and_confusion_are_counted() -> None:
    asked = [
        prompt("low linear", "low"),
        prompt("high linear", "low"),
        prompt("medium abstained", "high"),
        prompt("high unusable", "high"),
    ]
    found = score_everyday("it", ByFirstWord(), asked)
    assert (found.exact.value, found.within_one.value, found.abstained.value) == (0.5, 0.75, 0.5)
    assert found.exact.low <= found.exact.value <= found.exact.high
    assert found.confusion.tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 1]]
    assert found.chances == 0.5
    assert found.reasons == {"linear": 0.5, "abstained": 0.25, "unusable": 0.25}


def test_the_shipped_router_classes_the_held_out_half_well_enough(prompts) -> None:
    held_out = [each for each in prompts if each.half == "held_out"]
    found = score_everyday("default", load_learned(mode=DEFAULT), held_out)
    assert found.exact.value >= 0.7
    assert found.within_one.value >= 0.9
    assert found.abstained.value < 0.25


def test_the_shipped_router_still_abstains_on_what_is_no_language() -> None:
    router = ShippedRouter("default", load_learned(mode=DEFAULT), ("one", "another"))
    assert router.reasons(strange_prompts())["abstained"] >= 0.95


def test_a_rule_without_stages_never_abstains(prompts) -> None:
    assert score_everyday("keyword", KeywordClassifier(), prompts[:20]).abstained.value == 0


def test_the_program_writes_what_is_learned_from_and_nothing_held_out(tmp_path, prompts) -> None:
    path = tmp_path / "learned.jsonl"
    command = [sys.executable, "-m", "benchmarks.routebench.everyday", "--write-learned", str(path)]
    subprocess.run(command, check=True, cwd=ROOT)
    written = {json.loads(line)["prompt"] for line in path.read_bytes().splitlines()}
    assert written > {each.prompt for each in prompts if each.half == "dev"}
    assert not written & {each.prompt for each in prompts if each.half == "held_out"}


def test_the_shipped_heads_have_learned_from_just_these_prompts() -> None:
    labelled = [LabelledPrompt(prompt=each.prompt, label=each.label) for each in prompts_to_learn()]
    learned = read_manifest(SHIPPED).training["classes"]
    assert (learned["prompts"], learned["sha256"]) == (len(labelled), digest_of(labelled))
