"""New models for existing weights: a head from a few hundred labels, in the space that all heads share. Needs no torch.

The rows of the shipped heads span few directions (strong or weak, at mathematics, at code, ...). A new model is a point
in that space (UniRoute and IRT-Router do likewise): far fewer numbers to learn than a row of its own, and they start at
the average model of its tier.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from router_model.catalogue.model import Tier
from router_model.classifier import weights
from router_model.classifier.heads import TIER_PREFIX, Heads
from router_model.replay.outcome_dataset import EVALUATION_ONLY, OutcomeRow
from router_model.training import weight_files
from router_model.training.calibration import ridge_logistic
from router_model.training.dataset import TooLittleData
from router_model.training.model_tiers import tier_of

Floats = npt.NDArray[np.float32]
DIRECTIONS: Final = 12
"""Directions of the shared space that a new model is placed along."""
RIDGE: Final = 25.0
"""Labels' worth of trust in the tier's average model."""
DEFAULT_TIER: Final[Tier] = "L1"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewHead:
    """What was learned of one model: from `labels` prompts; `tier` is where it started."""

    name: str
    tier: Tier
    labels: int


@dataclass(frozen=True, slots=True)
class _Seen:
    """What both stages see of the labelled prompts: linear [N, K], encoder [N, K'] or None."""

    linear: Floats
    encoder: Floats | None


def extend(
    base: Path,
    rows: Iterable[OutcomeRow],
    out: Path,
    *,
    tiers: Mapping[str, Tier],
    min_labels: int = 40,
    told: Callable[[float], None] = lambda _: None,
) -> tuple[NewHead, ...]:
    """Writes the weights of `base` with heads for the models of `rows` added, or replaced where they had one.

    Args:
        base: a weights directory.
        rows: labelled prompts.
        out: the new weights directory.
        tiers: of models by learned name, where known; else the name says it, else L1.
        min_labels: labelled prompts that a model needs; others are left out.
        told: is called with the share of prompts looked at.

    Raises:
        WeightsUnusable: `base` cannot be used.
        TooLittleData: no model has enough labels.
    """
    manifest = weights.read_manifest(base)
    labels = _labels(rows, min_labels)
    linear, encoder = weights.load_stages(
        base, manifest, has_encoder=manifest.encoder_threshold is not None
    )
    prompts = sorted({prompt for scores in labels.values() for prompt in scores})
    at = {prompt: row for row, prompt in enumerate(prompts)}
    seen = _seen(linear, encoder, prompts, told)
    found = tuple(
        NewHead(
            name=name, tier=tiers.get(name) or tier_of(name) or DEFAULT_TIER, labels=len(scores)
        )
        for name, scores in sorted(labels.items())
    )
    files = {name: weights.verify_files(base, name, manifest) for name in manifest.files}
    stages = [(weights.LINEAR, linear.heads, seen.linear)]
    if encoder is not None and seen.encoder is not None:
        stages.append((weights.ENCODER, encoder.heads, seen.encoder))
    for file, heads, inputs in stages:
        held = weights.load_arrays(base, file, manifest)
        grown = _grown(heads, inputs, labels, at, found)
        held.update(names=weights.pack_strings(grown[0]), weight=grown[1], bias=grown[2])
        files[file] = weight_files.packed(held)
    about = _about(manifest, found)
    weight_files.write_weights(out, files, thresholds_of(manifest), about)
    return found


def thresholds_of(manifest: weights.Manifest) -> dict[str, float]:
    """The thresholds of a manifest, as `weight_files.write_weights` takes them."""
    found = {
        "band": manifest.band,
        "least_coverage": manifest.least_coverage,
        "linear": manifest.linear_threshold,
        "least_known_words": manifest.least_known_words,
    }
    if manifest.encoder_threshold is not None:
        found["encoder"] = manifest.encoder_threshold
    return found


def _about(manifest: weights.Manifest, found: tuple[NewHead, ...]) -> dict[str, Any]:
    added = {each.name: {"labels": each.labels, "tier": each.tier} for each in found}
    return {**manifest.training, "extends": manifest.version, "added": added}


def _labels(rows: Iterable[OutcomeRow], min_labels: int) -> dict[str, dict[str, float]]:
    """Score by model and prompt, of models with enough of them. Of several scores the last one counts; sources for
    evaluation only do not.
    """
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        if row.source in EVALUATION_ONLY:
            continue
        for name, score in row.outcomes.items():
            found.setdefault(name, {})[row.prompt] = score
    enough = {name: scores for name, scores in found.items() if len(scores) >= min_labels}
    if not enough:
        most = max((len(scores) for scores in found.values()), default=0)
        raise TooLittleData(
            f"no model has {min_labels} rated answers (the most has {most}); rate more, or lower --min-labels"
        )
    return enough


def _seen(linear: Any, encoder: Any, prompts: list[str], told: Callable[[float], None]) -> _Seen:
    ours, theirs = [], []
    for number, prompt in enumerate(prompts):
        latent = linear.read(prompt).latent
        ours.append(latent)
        if encoder is not None:
            theirs.append(np.concatenate((encoder.pooled(prompt), latent)))
        told((number + 1) / len(prompts))
    return _Seen(np.stack(ours), np.stack(theirs) if theirs else None)


def _grown(
    heads: Heads,
    inputs: Floats,
    labels: Mapping[str, Mapping[str, float]],
    at: Mapping[str, int],
    new: tuple[NewHead, ...],
) -> tuple[tuple[str, ...], Floats, Floats]:
    """Names, weight and bias with the new heads in."""
    names, weight, bias = list(heads.names), heads.weight.copy(), heads.bias.copy()
    directions = _directions(heads)
    for each in new:
        rows = np.array([at[prompt] for prompt in labels[each.name]])
        scores = np.array(list(labels[each.name].values()), np.float64)
        start, level = _average(heads, each.tier)
        prior = inputs[rows] @ start + level
        shift = _placed(inputs[rows] @ directions.T, prior, scores)
        row, offset = start + shift[:-1] @ directions, level + shift[-1]
        if each.name in heads.rows:
            weight[heads.rows[each.name]], bias[heads.rows[each.name]] = row, offset
        else:
            names.append(each.name)
            weight, bias = np.vstack([weight, row]), np.append(bias, offset)
    return tuple(names), weight.astype(np.float16), bias.astype(np.float32)


def _average(heads: Heads, tier: Tier) -> tuple[Floats, float]:
    """The head of a tier's average model; weights that know no such tier: the average of all heads."""
    row = heads.rows.get(TIER_PREFIX + tier)
    if row is None:
        return heads.weight.mean(axis=0), float(heads.bias.mean())
    return heads.weight[row], float(heads.bias[row])


def _directions(heads: Heads) -> Floats:
    """Principal directions [D, K] of the head rows around their mean, scaled by how far models lie along them."""
    spread = heads.weight - heads.weight.mean(axis=0)
    _, sizes, found = np.linalg.svd(spread, full_matrices=False)
    count = min(DIRECTIONS, len(found))
    scaled: Floats = found[:count] * (sizes[:count, None] / np.sqrt(len(heads.weight)))
    return scaled


def _placed(
    inputs: npt.NDArray[Any], prior: npt.NDArray[Any], scores: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Place along each direction, and a bias, on top of `prior` log odds."""
    x = np.hstack([inputs, np.ones((len(inputs), 1))]).astype(np.float64)
    ridge = np.full(x.shape[1], RIDGE)
    ridge[-1] = 1.0
    return ridge_logistic(x, scores, prior=np.zeros_like(ridge), ridge=ridge, offset=prior)
