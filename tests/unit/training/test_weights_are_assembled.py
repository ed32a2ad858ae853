"""From a fit to a weights directory that serves: exact folding, int8, the same bytes, a card that tells the truth."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from events.names import Operation
from router_model.classifier import weights
from router_model.classifier.features import extract_features
from router_model.classifier.prompt_terms import NUMBER_NAMES
from router_model.replay.outcome_dataset import OutcomeRow
from router_model.training import weight_files
from router_model.training.calibration import Calibration
from router_model.training.dataset import Dataset, TooLittleData, dataset_of
from router_model.training.linear_maps import Fitted, Inputs
from router_model.training.vocabulary import Terms, terms_of
from router_model.training.weight_files import HeadRows
from router_model.training.weights_directory import Ending, finish

WORDS = ("prove", "sum", "rain", "code", "list", "translate", "why", "when")
LATENT = 6


def floats(seed: int, *shape: int) -> Any:
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    draw = np.random.default_rng(0)
    rows = []
    for number in range(200):
        prompt = " ".join(draw.choice(WORDS, 6)) + f" {number % 7}?"
        outcomes = {name: float(draw.random() < 0.6) for name in ("a-1b", "b-70b")}
        rows.append(
            OutcomeRow(
                id=str(number), source="mine", benchmark="b", qkey=str(number), prompt=prompt, outcomes=outcomes,
                out_chars={"a-1b": 100, "b-70b": 900},
            )
        )  # fmt: skip
    return dataset_of(rows, min_labels=10)


@pytest.fixture(scope="module")
def terms(dataset: Dataset) -> Terms:
    return terms_of(dataset.prompts, dataset.rows_of("train"), size=50)


@pytest.fixture
def fitted(dataset: Dataset, terms: Terms) -> Fitted:
    models = len(dataset.models)
    return Fitted(
        table=floats(1, len(terms.kept), LATENT),
        mixing=floats(2, len(NUMBER_NAMES), LATENT) * 0.1,
        offset=floats(3, LATENT),
        weight=floats(4, models + 3, LATENT),
        bias=floats(5, models + 3),
    )


def ending(out: Path) -> Ending:
    return Ending(out=out, seed=0, encoder_share=0.35, about={"made": "by a test", "start": None})


def served(directory: Path) -> Any:
    return weights.load_learned(directory, mode="linear")


def features(text: str) -> Any:
    return extract_features(Operation.CHAT, {"messages": [{"role": "user", "content": text}]})


def test_what_is_served_is_what_was_fitted(
    dataset: Dataset, terms: Terms, fitted: Fitted, tmp_path: Path
) -> None:
    """The latent of the served stage, int8 table and all, is the fit's."""
    finish(dataset, terms, fitted, None, ending(tmp_path))
    wide = Inputs(dense=terms.numbers, terms=terms.rows, size=len(terms.kept))
    wanted = fitted.latent(wide)
    stage = served(tmp_path)._linear
    for row, prompt in enumerate(dataset.prompts[:40]):
        latent, coverage, _ = stage.read(prompt)
        np.testing.assert_allclose(latent[:LATENT], wanted[row], atol=0.05)
        np.testing.assert_allclose(latent[LATENT:], terms.numbers[row], atol=1e-5)
        assert coverage == pytest.approx(float(terms.coverage[row]))


def test_assembled_weights_answer_for_every_model_and_tier(
    dataset: Dataset, terms: Terms, fitted: Fitted, tmp_path: Path
) -> None:
    finish(dataset, terms, fitted, None, ending(tmp_path))
    found = served(tmp_path).classify(features(dataset.prompts[0]), ("a-1b", "b-70b", "other"))
    assert found.reason == "linear"
    assert set(found.success) == {"a-1b", "b-70b"}
    assert set(found.tier_success) == {"L1", "L3"}
    assert found.answer_tokens["b-70b"] > 5 * found.answer_tokens["a-1b"]


def test_the_same_fit_gives_the_same_bytes(
    dataset: Dataset, terms: Terms, fitted: Fitted, tmp_path: Path
) -> None:
    one = finish(dataset, terms, fitted, None, ending(tmp_path / "one"))
    two = finish(dataset, terms, fitted, None, ending(tmp_path / "two"))
    assert one == two
    assert (tmp_path / "one/linear.npz").read_bytes() == (tmp_path / "two/linear.npz").read_bytes()


def test_the_card_names_data_figures_and_hashes(
    dataset: Dataset, terms: Terms, fitted: Fitted, tmp_path: Path
) -> None:
    manifest = finish(dataset, terms, fitted, None, ending(tmp_path))
    card = (tmp_path / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "200 distinct prompts, 400 outcomes (0/1 or a score) of 2 models, from: mine" in card
    assert dataset.digest in card
    assert manifest.files["linear.npz"] in card
    figures = manifest.training["figures"]["linear"]
    assert set(figures) == {"log_loss", "ece", "class_accuracy"}
    assert f"| linear | {figures['class_accuracy']} | {figures['ece']} |" in card
    assert "{" not in card.replace("Recipe: `None`", "")
    assert json.loads((tmp_path / "manifest.json").read_text())["version"] == manifest.version


def test_without_a_dev_part_figures_are_left_out(
    dataset: Dataset, terms: Terms, fitted: Fitted, tmp_path: Path
) -> None:
    parts = np.where(dataset.parts == "dev", "train", dataset.parts)
    whole = Dataset(
        **{name: getattr(dataset, name) for name in Dataset.__slots__} | {"parts": parts}
    )
    manifest = finish(whole, terms, fitted, None, ending(tmp_path))
    assert manifest.training["figures"] == {"linear": {}}
    assert "too little data" in (tmp_path / "MODEL_CARD.md").read_text(encoding="utf-8")
    served(tmp_path)


def test_an_int8_table_is_near_the_float_one() -> None:
    table = floats(1, 300, 8) * np.array([1e-3, 1, 5, 0, 1, 1, 1, 100], np.float32)
    held, scale = weight_files.quantised(table)
    assert held.dtype == np.int8
    assert (np.abs(held * scale - table) <= scale / 2 + 1e-7).all()


def test_folded_maps_give_the_same_logits() -> None:
    dense, seen = floats(1, 50, 9), floats(2, 50, 9)
    fit = Fitted(
        table=None, mixing=floats(3, 9, 4), offset=floats(4, 4), weight=floats(5, 8, 4), bias=floats(6, 8)
    )  # fmt: skip
    rows = weight_files.rows_on_dense(fit, 5)
    logits = fit.logits(Inputs(dense=dense))
    np.testing.assert_allclose(rows.logits(dense), logits[:, :5], atol=1e-4)
    np.testing.assert_allclose(rows.class_logits(dense), logits[:, 5:], atol=1e-4)

    mean, gain = floats(7, 6), np.abs(floats(8, 6)) + 0.1
    scaled = seen.copy()
    scaled[:, :6] = (seen[:, :6] - mean) * gain
    raw = weight_files.unscaled(rows, mean, gain)
    np.testing.assert_allclose(raw.logits(seen), rows.logits(scaled), atol=1e-4)
    np.testing.assert_allclose(raw.class_logits(seen), rows.class_logits(scaled), atol=1e-4)


def heads(seed: int, width: int) -> HeadRows:
    return HeadRows(
        weight=floats(seed, 4, width), bias=floats(seed + 1, 4),
        class_weight=floats(seed + 2, 3, width), class_bias=floats(seed + 3, 3),
    )  # fmt: skip


def test_heads_side_by_side_give_the_weighted_mean_of_their_logits() -> None:
    seen = floats(0, 30, 7)
    first, second = heads(1, 3), heads(9, 5)
    left, right = np.array([0, 1, 2]), np.array([2, 3, 4, 5, 6])
    both = weight_files.side_by_side([(first, 0.3, left), (second, 0.7, right)], 7)
    wanted = 0.3 * first.logits(seen[:, left]) + 0.7 * second.logits(seen[:, right])
    np.testing.assert_allclose(both.logits(seen), wanted, atol=1e-5)
    wanted = 0.3 * first.class_logits(seen[:, left]) + 0.7 * second.class_logits(seen[:, right])
    np.testing.assert_allclose(both.class_logits(seen), wanted, atol=1e-5)


def test_a_calibration_is_folded_in_exactly() -> None:
    seen, plain = floats(0, 30, 7), heads(1, 7)
    by = Calibration(np.array([0.5, 1, 2, 3], np.float32), floats(5, 4))
    np.testing.assert_allclose(
        plain.calibrated(by).logits(seen), by.apply(plain.logits(seen)), atol=1e-5
    )


def test_terms_are_those_of_the_training_part_and_rows_have_unit_length(
    dataset: Dataset, terms: Terms
) -> None:
    assert {"prove", "?"} <= set(terms.kept)
    assert len(terms.kept) == len(terms.idf) == 50
    lengths = np.add.reduceat(terms.rows.weights**2, terms.rows.starts[:-1])
    np.testing.assert_allclose(lengths, 1, rtol=1e-5)
    columns, values, starts = terms.rows.take(np.array([5, 3]))
    first = slice(terms.rows.starts[5], terms.rows.starts[6])
    np.testing.assert_array_equal(columns[: starts[1]], terms.rows.columns[first])
    np.testing.assert_array_equal(values[: starts[1]], terms.rows.weights[first])


def test_prompts_without_a_common_word_are_too_little_data() -> None:
    prompts = [f"{chr(97 + n // 26)}{chr(97 + n % 26)}x" for n in range(60)]
    with pytest.raises(TooLittleData, match="no word occurs in 3"):
        terms_of(prompts, np.arange(40), size=100)
