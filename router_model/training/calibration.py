"""From raw logits to calibrated chances; and what needs no torch: answer length, outlier gate, hybrid band."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
PRIOR_PROMPTS: Final = 2000.0
"""A model's own scale and shift count against this many prompts' worth of "as all models together"."""
PRIOR_CELLS: Final = 8.0
"""Scale and shift of all models together count against this many labels' worth of "as they are"."""
STEPS: Final = 25
RIDGE: Final = 30.0
GATE_CENTROIDS: Final = 128
GATE_STEPS: Final = 12
GATE_SHARE: Final = 0.004
"""Share of prompts like the training ones that the gate turns away."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Calibrated logit of model m = scale[m] * logit + shift[m] (Platt scaling, shrunk to the scale of all models)."""

    scale: Floats
    shift: Floats

    def apply(self, logits: Floats) -> Floats:
        found: Floats = logits * self.scale + self.shift
        return found


def calibrate(logits: Floats, labels: Floats) -> Calibration:
    """Platt scaling by model [N, M] on prompts that the heads were not fitted on; labels may be NaN."""
    known = np.isfinite(labels)
    together = _platt(logits[known], labels[known], np.array([1.0, 0.0]), PRIOR_CELLS / 4)
    scale = np.full(labels.shape[1], together[0], np.float32)
    shift = np.full(labels.shape[1], together[1], np.float32)
    for model in range(labels.shape[1]):
        rows = known[:, model]
        if rows.any():
            fitted = _platt(logits[rows, model], labels[rows, model], together, PRIOR_PROMPTS / 4)
            scale[model], shift[model] = fitted
    return Calibration(np.maximum(scale, 0.05), shift)


def _platt(
    logits: Floats, labels: Floats, prior: npt.NDArray[np.float64], strength: float
) -> npt.NDArray[np.float64]:
    """(scale, shift) of a logistic regression with a ridge towards `prior`."""
    x = np.stack([logits, np.ones_like(logits)], axis=1).astype(np.float64)
    return ridge_logistic(x, labels, prior=prior, ridge=np.full(2, strength))


def ridge_logistic(
    x: npt.NDArray[np.float64],
    labels: npt.NDArray[Any],
    *,
    prior: npt.NDArray[np.float64],
    ridge: npt.NDArray[np.float64],
    offset: npt.NDArray[Any] | float = 0.0,
) -> npt.NDArray[np.float64]:
    """Coefficients [D] of a logistic regression of labels [n] on x [n, D], on top of `offset` log odds.

    `ridge` [D] draws each coefficient towards `prior` [D]. By Newton steps; one that would make matters worse (logits
    far too sure, where the curve is flat) is shortened.
    """
    found = prior.astype(np.float64).copy()

    def cost(at: npt.NDArray[np.float64]) -> float:
        odds = offset + x @ at
        drawn = (ridge * (at - prior) ** 2).sum() / 2
        return float((np.logaddexp(0, odds) - labels * odds).sum() + drawn)

    for _ in range(STEPS):
        chance = 1 / (1 + np.exp(-np.clip(offset + x @ found, -30, 30)))
        slope = x.T @ (labels - chance) - ridge * (found - prior)
        curve = (x * (chance * (1 - chance))[:, None]).T @ x + np.diag(ridge + 1e-6)
        step, now = np.linalg.solve(curve, slope), cost(found)
        while cost(found + step) > now and np.abs(step).max() > 1e-6:
            step /= 2
        found += step
        if np.abs(step).max() < 1e-6:
            break
    return found


def log_loss(logits: Floats, labels: Floats) -> float:
    """Mean negative log likelihood over the known cells of [N, M]."""
    known = np.isfinite(labels)
    odds, wanted = np.clip(logits[known], -30, 30), labels[known]
    return float(np.mean(np.logaddexp(0, odds) - wanted * odds))


def best_mixture(
    parts: Sequence[Floats], labels: Floats, *, step: float = 0.1
) -> tuple[float, ...]:
    """Shares (sum 1) of several logits [N, M] whose mean has the least log loss, by grid search."""
    grid = np.arange(0, 1 + step / 2, step)
    shares = np.stack(np.meshgrid(*[grid] * len(parts), indexing="ij"), axis=-1)
    shares = shares.reshape(-1, len(parts))
    shares = shares[np.isclose(shares.sum(axis=1), 1)]
    losses = [log_loss(mixed(parts, share), labels) for share in shares]
    return tuple(float(share) for share in shares[int(np.argmin(losses))])


def mixed(parts: Sequence[Floats], shares: Sequence[float]) -> Floats:
    found: Floats = np.sum(
        [part * share for part, share in zip(parts, shares, strict=True)], axis=0
    )
    return found


def expected_calibration_error(logits: Floats, labels: Floats, *, bins: int = 15) -> float:
    """ECE over all known cells: mean gap between chance and outcome in equally wide bins, by their size."""
    known = np.isfinite(labels)
    chance, wanted = 1 / (1 + np.exp(-logits[known])), labels[known]
    where = np.minimum((chance * bins).astype(int), bins - 1)
    gaps = np.bincount(where, chance - wanted, minlength=bins)
    return float(np.abs(gaps).sum() / len(chance))


def length_head(
    latent: Floats, log_tokens: Floats, names: Sequence[str]
) -> tuple[Floats, float, Mapping[str, float]]:
    """Ridge regression of log answer tokens on the latent [N, K], one offset a model: weight, bias, offsets."""
    rows, columns = np.nonzero(np.isfinite(log_tokens))
    if not len(rows):
        return np.zeros(latent.shape[1], np.float32), float(np.log(256)), {}
    wanted = log_tokens[rows, columns].astype(np.float64)
    models = np.unique(columns)
    offsets = {model: float(wanted[columns == model].mean()) for model in models}
    usual = float(np.mean(list(offsets.values())))
    rest = wanted - np.array([offsets[column] for column in columns])
    centre = latent[rows].mean(axis=0)
    x = (latent[rows] - centre).astype(np.float64)
    weight = np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ rest)
    bias = usual - float(centre @ weight)
    found = {names[model]: offset - usual for model, offset in offsets.items()}
    return weight.astype(np.float32), bias, found


def gate_of(latent: Floats, held_out: Floats, *, seed: int) -> tuple[Floats, float]:
    """Centroids [C, K] (spherical k-means over the training prompts) and the least similarity: `GATE_SHARE` of held-out
    prompts of the same benchmarks lie below it.
    """
    units = _unit(latent)
    order = np.random.default_rng(seed)
    count = min(GATE_CENTROIDS, len(units))
    centroids = units[order.choice(len(units), count, replace=False)]
    for _ in range(GATE_STEPS):
        nearest = (units @ centroids.T).argmax(axis=1)
        sums = np.zeros_like(centroids)
        np.add.at(sums, nearest, units)
        filled = np.linalg.norm(sums, axis=1) > 0
        centroids = np.where(filled[:, None], _unit(sums), centroids)
    similarity = (_unit(held_out) @ centroids.T).max(axis=1)
    return centroids.astype(np.float32), low_end(similarity, GATE_SHARE)


def low_end(values: Floats, share: float) -> float:
    """The value below which `share` of new ones lie. Few values do not reach so far down: then a part of the least of
    them, from half of it (next to no values) to all of it (1 / share values).
    """
    reach = len(values) * share
    if reach >= 1:
        return float(np.quantile(values, share))
    least = float(values.min())
    return min(least, least * (1 + reach) / 2)


def band_of(class_logits: Floats, *, share: float) -> float:
    """The margin between the two likeliest classes below which `share` of prompts [N, 3] lie."""
    raised = np.exp(class_logits - class_logits.max(axis=1, keepdims=True))
    ordered = np.sort(raised / raised.sum(axis=1, keepdims=True), axis=1)
    return float(np.quantile(ordered[:, -1] - ordered[:, -2], share))


def _unit(rows: Floats) -> Floats:
    found: Floats = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    return found
