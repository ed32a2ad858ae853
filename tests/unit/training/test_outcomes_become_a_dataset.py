"""Outcome rows as arrays: same prompts merged, parts kept apart, tiers and classes by outcome, too little refused."""

from typing import Any

import numpy as np
import pytest

from router_model.replay.outcome_dataset import OutcomeRow, assign_part
from router_model.training.dataset import TooLittleData, dataset_of, described
from router_model.training.model_tiers import tier_of


def row(number: int, outcomes: dict[str, float], **more: Any) -> OutcomeRow:
    named = {"id": f"r{number}", "source": "s", "benchmark": "b", "qkey": f"k{number}"}
    return OutcomeRow(**{**named, "prompt": f"prompt {number}", "outcomes": outcomes, **more})


def rows(count: int, **outcomes: float) -> list[OutcomeRow]:
    return [row(number, outcomes or {"m": float(number % 2)}) for number in range(count)]


def of(dataset: Any, prompt: str, model: str) -> float:
    return float(dataset.labels[dataset.prompts.index(prompt), dataset.models.index(model)])


def test_scores_of_one_prompt_are_averaged_and_unknown_ones_are_nan() -> None:
    again = [row(0, {"a": 0.0, "b": 1.0}), row(1, {"a": 0.5})]
    found = dataset_of([*rows(60, a=1.0), *again, *rows(60, b=0.25)][:-59], min_labels=1)
    assert len(found.prompts) == 60
    assert of(found, "prompt 0", "a") == 0.5
    assert of(found, "prompt 1", "a") == 0.75
    assert of(found, "prompt 0", "b") == pytest.approx(0.625)
    assert np.isnan(of(found, "prompt 2", "b"))


def test_a_model_with_few_labels_gets_no_column() -> None:
    many = rows(80, a=1.0)
    found = dataset_of([*many, row(0, {"rare": 1.0})], min_labels=40)
    assert found.models == ("a",)


def test_tier_columns_are_means_of_their_models() -> None:
    found = dataset_of(rows(60, **{"x-7b": 1.0, "y-8b": 0.5, "z-70b": 0.0, "w": 1.0}), min_labels=1)
    assert found.models == ("w", "x-7b", "y-8b", "z-70b", "tier:L1", "tier:L3")
    assert set(found.labels[:, 4]) == {0.75}
    assert set(found.labels[:, 5]) == {0.0}
    assert np.isnan(found.log_tokens[:, 4:]).all()


@pytest.mark.parametrize(
    ("name", "tier"),
    [
        ("qwen2.5-7b-instruct", "L1"), ("Mixtral-8x7B", "L2"), ("mixtral-8x22b", "L3"), ("Yi-34B", "L2"),
        ("llama-3-70b", "L3"), ("SmolLM2-135M", "L1"), ("gpt-4o-mini", "L2"), ("gpt-4", "L3"), ("Brand New", None),
    ],
)  # fmt: skip
def test_a_tier_is_read_from_a_name(name: str, tier: str | None) -> None:
    assert tier_of(name) == tier


def test_classes_follow_outcomes_not_length() -> None:
    """A third each of prompts that all, half and none of the models answered; those that none did are the longest."""

    def one(number: int) -> OutcomeRow:
        good = {0: (1.0, 1.0), 1: (1.0, 0.0), 2: (0.0, 0.0)}[number % 3]
        prompt = f"{number} " + "long " * (5 * (number % 3 != 2))
        return row(number, dict(zip("ab", good, strict=True)), prompt=prompt)

    found = dataset_of([one(number) for number in range(300)], min_labels=1)
    wanted = [int(prompt.split()[0]) % 3 for prompt in found.prompts]
    assert found.classes.tolist() == wanted


def test_lengths_are_tokens_where_known_else_characters() -> None:
    more: dict[str, Any] = {"out_chars": {"a": 400, "b": 80}, "tokens": {"a": (9, 50), "c": (9, 0)}}
    first = row(0, {"a": 1.0, "b": 1.0, "c": 1.0}, **more)
    found = dataset_of([first, *rows(60, a=1.0)[1:]], min_labels=0)
    line = dict(zip(found.models, np.exp(found.log_tokens[0]), strict=True))
    assert line["a"] == pytest.approx(50)
    assert line["b"] == pytest.approx(20)
    assert np.isnan(line["c"])


def test_parts_are_those_of_the_questions() -> None:
    found = dataset_of(rows(400))
    assert [assign_part(f"k{number}") for number in range(400)] == found.parts.tolist()


def test_of_few_questions_some_move_to_the_tune_part_and_none_of_the_dev_part() -> None:
    found = dataset_of(rows(60), min_labels=1)
    before = [assign_part(f"k{number}") for number in range(60)]
    moved = {(was, now) for was, now in zip(before, found.parts, strict=True) if was != now}
    assert moved == {("train", "tune")}
    assert (found.parts == "tune").sum() <= 20
    assert (found.parts == "train").sum() >= 0.75 * before.count("train")
    again = dataset_of(reversed(rows(60)), min_labels=1)
    assert dict(zip(again.prompts, again.parts, strict=True)) == dict(
        zip(found.prompts, found.parts, strict=True)
    )


def test_sources_for_evaluation_only_are_left_out() -> None:
    forbidden = [row(900 + n, {"m": 1.0}, source="alpacaeval2_nc") for n in range(50)]
    found = dataset_of([*rows(60), *forbidden], min_labels=1)
    assert found.sources == ("s",)
    assert len(found.prompts) == 60
    with pytest.raises(TooLittleData, match="no outcome to learn from"):
        dataset_of(forbidden)


def test_too_few_labels_are_counted_in_the_message() -> None:
    few = [*rows(60, common=1.0), *rows(9, rare=1.0)]
    with pytest.raises(
        TooLittleData, match=r"a model needs 90, and the most have: common \d+, rare \d"
    ):
        dataset_of(few, min_labels=90)


def test_too_few_prompts_are_counted_in_the_message() -> None:
    with pytest.raises(TooLittleData, match=r"distinct prompts to train on .* of 12 in all; 20"):
        dataset_of(rows(12), min_labels=1)
    same = [row(number, {"m": 1.0}, qkey="k1") for number in range(60)]
    with pytest.raises(TooLittleData, match="0 to calibrate on"):
        dataset_of(same, min_labels=1)


def test_a_digest_names_the_rows_in_any_order_and_what_was_kept_of_them() -> None:
    given = rows(60)
    digest = dataset_of(given).digest
    assert dataset_of(reversed(given)).digest == digest
    assert dataset_of([*given[1:], row(0, {"m": 0.5})]).digest != digest
    assert dataset_of(given, min_labels=2).digest != digest


def test_a_description_counts_models_and_not_tiers() -> None:
    found = described(dataset_of(rows(60, **{"x-7b": 1.0, "y-70b": 0.0}), min_labels=1))
    assert (found["prompts"], found["labels"], found["models"]) == (60, 120, 2)
    assert sum(found["parts"].values()) == 60
