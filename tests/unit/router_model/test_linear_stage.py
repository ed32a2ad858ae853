"""The linear stage against the same computation written densely, and what it calls an outlier."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_model.classifier import weights
from router_model.classifier.heads import OutlierGate
from router_model.classifier.linear_stage import CLIP, LinearStage
from router_model.classifier.prompt_terms import extract_numbers, extract_terms

texts = st.text(max_size=120) | st.lists(
    st.sampled_from(["prove", "the", "sum", "of", "is", "2", "?", "rain", "other"]), max_size=40
).map(" ".join)


@pytest.fixture(scope="module")
def stage(request, tmp_path_factory) -> LinearStage:
    tiny = request.getfixturevalue("make_tiny")()
    directory = tiny.write(tmp_path_factory.mktemp("weights"))
    return weights.load_learned(directory, mode="linear")._linear


def densely(stage: LinearStage, text: str) -> tuple[np.ndarray, float]:
    """[z, s] and coverage: tf-idf over the whole vocabulary, every step in float64."""
    found = list(extract_terms(text))
    tf_idf = np.zeros(len(stage.vocabulary))
    for term, row in stage.vocabulary.items():
        if count := found.count(term):
            tf_idf[row] = (1 + np.log(count)) * stage.idf[row]
    length = np.linalg.norm(tf_idf)
    unit = tf_idf / length if length else tf_idf
    table = stage.table.astype(np.float64) * stage.scale
    s = np.clip((extract_numbers(text) - stage.mean) / stage.deviation, -CLIP, CLIP)
    z = unit @ table + s @ stage.mixing.astype(np.float64) + stage.offset
    coverage = len(set(found) & set(stage.vocabulary)) / max(1, len(set(found)))
    return np.concatenate([z, s]), coverage


@given(text=texts)
def test_the_latent_is_that_of_a_dense_computation(stage: LinearStage, text: str) -> None:
    latent, coverage, _ = stage.read(text)
    dense, share = densely(stage, text)
    assert latent.dtype == np.float32
    assert latent == pytest.approx(dense, abs=1e-4)
    assert coverage == pytest.approx(share)


def test_coverage_is_the_share_of_different_terms_that_are_known(stage: LinearStage) -> None:
    assert stage.read("the sum").coverage == 1.0
    assert stage.read("the the zebra").coverage == pytest.approx(1 / 4)  # "the the", "the zebra"
    assert stage.read("zebra zebra").coverage == stage.read("").coverage == 0.0


def test_little_coverage_makes_an_outlier(stage: LinearStage) -> None:
    strict = replace(stage, least_coverage=0.5)
    latent, _, _ = stage.read("the sum")
    assert not strict.is_outlier(latent, 0.5)
    assert strict.is_outlier(latent, 0.49)


def test_a_latent_away_from_every_centroid_is_an_outlier(stage: LinearStage) -> None:
    latent, coverage, _ = stage.read("prove")
    own = latent[: stage.offset.size] / np.linalg.norm(latent[: stage.offset.size])
    near = replace(stage, gate=OutlierGate(np.stack([-own, own]), 0.999))
    away = replace(stage, gate=OutlierGate(-own[None], 0.0))
    assert not near.is_outlier(latent, coverage)
    assert away.is_outlier(latent, coverage)


@pytest.mark.parametrize("factor", [1e-3, 1.0, 1e3])
def test_the_gate_looks_at_direction_alone(factor: float) -> None:
    gate = OutlierGate(np.array([[0.6, 0.8]], np.float32), 0.9)
    assert not gate.is_outlier(np.array([3.0, 4.0], np.float32) * np.float32(factor))
    assert gate.is_outlier(np.array([4.0, -3.0], np.float32) * np.float32(factor))


def test_nothing_at_all_is_an_outlier() -> None:
    assert OutlierGate(np.array([[1.0, 0.0]], np.float32), -1.0).is_outlier(np.zeros(2, np.float32))
