"""From trained stages to a weights directory: calibrated heads, gates, answer lengths, files and model card."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from router_model.classifier.heads import TIER_PREFIX
from router_model.classifier.prompt_terms import NUMBER_NAMES
from router_model.classifier.weights import ENCODER, LINEAR, Manifest
from router_model.training import calibration as calibrating
from router_model.training import weight_files
from router_model.training.dataset import Dataset, described
from router_model.training.linear_maps import Fitted, Inputs
from router_model.training.model_card import model_card
from router_model.training.vocabulary import Terms
from router_model.training.weight_files import HeadRows

Floats = npt.NDArray[np.float32]
LEAST_COVERAGE_SHARE: Final = 0.002
"""Share of held-out prompts with fewer known terms than the least coverage."""
CARD: Final = "MODEL_CARD.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderParts:
    """The encoder's side: `states` [N, S] and `served` [n, S], the tune part's from the exported graph; `own` heads
    over the states, `over` heads over [states, numbers]; `files` to ship.
    """

    states: Floats
    served: Floats
    own: HeadRows
    over: tuple[HeadRows, ...]
    files: Mapping[str, bytes]
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """Where weights go, what their card says, and the share of usual prompts for the encoder in hybrid mode."""

    out: Path
    seed: int
    encoder_share: float
    about: Mapping[str, Any]


def finish(
    dataset: Dataset,
    terms: Terms,
    student: Fitted,
    encoder: EncoderParts | None,
    ending: Ending,
) -> Manifest:
    """Calibrates on the tune part, measures on the dev part, writes the directory."""
    wide = Inputs(dense=terms.numbers, terms=terms.rows, size=len(terms.kept))
    latent = student.latent(wide)
    seen = np.hstack([latent, terms.numbers]).astype(np.float32)
    models = dataset.labels.shape[1]
    plain = weight_files.rows_on_latent(student, models)
    linear = _calibrated(plain, seen, dataset)
    gate = _gate(latent, dataset, ending.seed)
    tune = dataset.rows_of("tune")
    thresholds = {
        "band": calibrating.band_of(linear.class_logits(seen[tune]), share=ending.encoder_share),
        "least_coverage": calibrating.low_end(terms.coverage[tune], LEAST_COVERAGE_SHARE),
        "linear": gate[1],
    }
    lengths = calibrating.length_head(
        seen[dataset.rows_of("train")], dataset.log_tokens[dataset.rows_of("train")], dataset.models
    )
    figures: dict[str, Any] = {"linear": _figures(linear, seen, dataset)}
    files = {
        LINEAR: weight_files.packed(
            weight_files.linear_arrays(terms, student, linear, dataset.models, lengths, gate[0])
        )
    }
    if encoder is not None:
        heads, both, shares = _encoder_heads(encoder, plain, seen, dataset)
        centroids, thresholds["encoder"] = _gate(encoder.states, dataset, ending.seed)
        arrays = weight_files.head_arrays(heads, dataset.models)
        files[ENCODER] = weight_files.packed({**arrays, "centroids": centroids.astype(np.float16)})
        files.update(encoder.files)
        figures["encoder"] = {
            **_figures(heads, both, dataset),
            "mixture": shares,
            **encoder.figures,
        }
    training = {**ending.about, "data": described(dataset), "figures": figures}
    files[CARD] = model_card(training, {name: _sha256(raw) for name, raw in files.items()}).encode()
    return weight_files.write_weights(ending.out, files, thresholds, training)


def _encoder_heads(
    encoder: EncoderParts, plain: HeadRows, seen: Floats, dataset: Dataset
) -> tuple[HeadRows, Floats, list[float]]:
    """One matrix over [states, latent, numbers]: the mixture of the encoder's own heads, those over its states, and the
    linear stage's, with the least loss on the tune part.
    """
    width, numbers = encoder.states.shape[1], len(NUMBER_NAMES)
    both = np.hstack([encoder.states, seen]).astype(np.float32)
    total = both.shape[1]
    states, rest = np.arange(width), np.arange(width, total)
    over_columns = np.concatenate([states, np.arange(total - numbers, total)])
    served = both[dataset.rows_of("tune")].copy()
    served[:, :width] = encoder.served
    over = weight_files.side_by_side(
        [(rows, 1 / len(encoder.over), over_columns) for rows in encoder.over], total
    )
    candidates = [
        weight_files.side_by_side([(encoder.own, 1.0, states)], total),
        over,
        weight_files.side_by_side([(plain, 1.0, rest)], total),
    ]
    labels = dataset.labels[dataset.rows_of("tune")]
    shares = calibrating.best_mixture([rows.logits(served) for rows in candidates], labels)
    every = np.arange(total)
    mixed = weight_files.side_by_side(
        [(rows, share, every) for rows, share in zip(candidates, shares, strict=True)], total
    )
    calibration = calibrating.calibrate(mixed.logits(served), labels)
    return mixed.calibrated(calibration), both, [round(share, 2) for share in shares]


def _calibrated(rows: HeadRows, seen: Floats, dataset: Dataset) -> HeadRows:
    tune = dataset.rows_of("tune")
    return rows.calibrated(calibrating.calibrate(rows.logits(seen[tune]), dataset.labels[tune]))


def _gate(latent: Floats, dataset: Dataset, seed: int) -> tuple[Floats, float]:
    return calibrating.gate_of(
        latent[dataset.rows_of("train")], latent[dataset.rows_of("tune")], seed=seed
    )


def _figures(rows: HeadRows, seen: Floats, dataset: Dataset) -> dict[str, float]:
    """Log loss, ECE and class accuracy on the dev part, over models (tiers left out); empty where it has no label."""
    dev = dataset.rows_of("dev")
    single = [n for n, name in enumerate(dataset.models) if not name.startswith(TIER_PREFIX)]
    labels = dataset.labels[dev][:, single]
    if not np.isfinite(labels).any():
        return {}
    logits = rows.logits(seen[dev])[:, single]
    right = rows.class_logits(seen[dev]).argmax(axis=1) == dataset.classes[dev]
    return {
        "log_loss": round(calibrating.log_loss(logits, labels), 4),
        "ece": round(calibrating.expected_calibration_error(logits, labels), 4),
        "class_accuracy": round(float(right.mean()), 4),
    }


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()
