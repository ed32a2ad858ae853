"""Fits the heads of a stage: prompts to a latent vector that models share, that to success and class. Needs torch."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from router_model.training.dataset import Dataset
from router_model.training.linear_maps import Fitted, Inputs

Floats = npt.NDArray[np.float32]
TERM_GAIN: Final = 3.0
"""Rows of unit length are scaled by this, so that terms learn as fast as numbers do."""
CLASS_SHARE: Final = 0.5
LEAST_BATCHES: Final = 16
LEAST_BATCH: Final = 8
"""A pass over few prompts takes smaller batches, so that it has at least so many, of at least so many prompts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FitRecipe:
    """`latent` numbers of the shared space; `soft_share` of the loss follows a teacher where there is one. The n
    labels of a prompt weigh n ** (1 - `evenness`) together: 1 makes prompts equal, 0 labels.
    """

    latent: int = 64
    epochs: int = 4
    batch: int = 128
    rate: float = 2e-3
    dropout: float = 0.3
    decay: float = 0.01
    soft_share: float = 0.5
    evenness: float = 0.5


def use_threads(count: int | None) -> None:
    """Lets torch use so many threads; None leaves its own choice. Results differ in the last bits with the number."""
    if count is not None:
        torch.set_num_threads(count)


def fit(
    dataset: Dataset,
    inputs: Inputs,
    rows: npt.NDArray[np.intp],
    recipe: FitRecipe,
    *,
    seed: int,
    teacher: Floats | None = None,
    told: Callable[[float], None] = lambda _: None,
) -> Fitted:
    """Fits on some prompts.

    Args:
        dataset: labels [N, M]; unknown ones count nothing. A prompt's labels together weigh the root of their number.
        inputs: what is seen of every prompt.
        rows: prompts to fit on.
        recipe: sizes and rates.
        seed: of initial values and order.
        teacher: logits [N, M] to follow as well, on every cell (distillation); None: labels only.
        told: is called with the share done, now and then.
    """
    torch.manual_seed(seed)
    order = np.random.default_rng(seed)
    models = dataset.labels.shape[1]
    net = _net(inputs, recipe, models)
    with torch.no_grad():
        net["out"].bias[:models] = torch.tensor(_rates(dataset.labels[rows]))
    loss_of = _loss(dataset, teacher, recipe)
    optimisers = _optimisers(net, recipe)
    size = _batch_size(len(rows), recipe.batch)
    steps = max(1, recipe.epochs * (len(rows) // size))
    done = 0
    told(0.0)
    net.train()
    for _ in range(recipe.epochs):
        shuffled = order.permutation(rows)
        for start in range(0, len(rows) - size + 1, size):
            taken = shuffled[start : start + size]
            factor = 0.5 * (1 + np.cos(np.pi * done / steps))
            for optimiser in optimisers:
                optimiser.param_groups[0]["lr"] = recipe.rate * factor
                optimiser.zero_grad()
            loss_of(_forward(net, inputs, taken), taken).backward()
            for optimiser in optimisers:
                optimiser.step()
            done += 1
            if not done % 50:
                told(done / steps)
    return _fitted(net)


def _batch_size(rows: int, wanted: int) -> int:
    return max(1, min(wanted, rows, max(LEAST_BATCH, rows // LEAST_BATCHES)))


def _net(inputs: Inputs, recipe: FitRecipe, models: int) -> Any:
    parts = {
        "dense": nn.Linear(inputs.dense.shape[1], recipe.latent),
        "drop": nn.Dropout(recipe.dropout),
        "out": nn.Linear(recipe.latent, models + 3),
    }
    nn.init.normal_(parts["out"].weight, 0, 0.1)
    if inputs.terms is not None:
        parts["terms"] = nn.EmbeddingBag(inputs.size, recipe.latent, mode="sum", sparse=True)
        nn.init.normal_(parts["terms"].weight, 0, 0.02)
    return nn.ModuleDict(parts)


def _optimisers(net: Any, recipe: FitRecipe) -> list[Any]:
    dense = [value for name, value in net.named_parameters() if not name.startswith("terms")]
    found = [torch.optim.AdamW(dense, lr=recipe.rate, weight_decay=recipe.decay)]
    if "terms" in net:
        found.append(torch.optim.SparseAdam(list(net["terms"].parameters()), lr=recipe.rate))
    return found


def _forward(net: Any, inputs: Inputs, rows: npt.NDArray[np.intp]) -> Any:
    latent = net["dense"](torch.from_numpy(inputs.dense[rows]))
    if inputs.terms is not None:
        columns, weights, starts = inputs.terms.take(rows)
        bag = net["terms"](
            torch.from_numpy(columns),
            torch.from_numpy(starts),
            per_sample_weights=torch.from_numpy(weights),
        )
        latent = latent + TERM_GAIN * bag
    return net["out"](net["drop"](latent))


def _loss(
    dataset: Dataset, teacher: Floats | None, recipe: FitRecipe
) -> Callable[[Any, npt.NDArray[np.intp]], Any]:
    labels, weights = label_weights(dataset.labels, recipe.evenness)
    targets, cells = torch.from_numpy(labels), torch.from_numpy(weights)
    classes = torch.from_numpy(dataset.classes)
    models = labels.shape[1]
    soft = None if teacher is None else torch.sigmoid(torch.from_numpy(teacher))
    entropy = nn.functional.binary_cross_entropy_with_logits

    def loss_of(logits: Any, rows: npt.NDArray[np.intp]) -> Any:
        taken, known = torch.from_numpy(rows), logits[:, :models]
        hard = (entropy(known, targets[taken], reduction="none") * cells[taken]).sum() / len(rows)
        if soft is not None:
            followed = entropy(known, soft[taken], reduction="none").sum() / len(rows)
            hard = (1 - recipe.soft_share) * hard + recipe.soft_share * followed / models**0.5
        return hard + CLASS_SHARE * nn.functional.cross_entropy(logits[:, models:], classes[taken])

    return loss_of


def label_weights(labels: Floats, evenness: float = 0.5) -> tuple[Floats, Floats]:
    """Labels [N, M] without NaN, and the weight of each cell (`FitRecipe.evenness`), the same sum as at 0.5."""
    known = np.isfinite(labels).astype(np.float32)
    count = np.maximum(known.sum(axis=1, keepdims=True), 1)
    weights = known / count**evenness
    size = (known / np.sqrt(count)).sum() / max(1e-9, float(weights.sum()))
    return np.nan_to_num(labels), (weights * size).astype(np.float32)


def _rates(labels: Floats) -> Floats:
    """Log odds of each model's mean outcome; 0 where it has none."""
    known = np.isfinite(labels)
    rate = np.where(known, labels, 0).sum(axis=0) / np.maximum(1, known.sum(axis=0))
    rate = np.clip(np.where(known.any(axis=0), rate, 0.5), 0.02, 0.98)
    odds: Floats = np.log(rate / (1 - rate)).astype(np.float32)
    return odds


def _fitted(net: Any) -> Fitted:
    def array(value: Any) -> Floats:
        found: Floats = value.detach().numpy().astype(np.float32)
        return found

    return Fitted(
        table=array(net["terms"].weight) * TERM_GAIN if "terms" in net else None,
        mixing=array(net["dense"].weight).T,
        offset=array(net["dense"].bias),
        weight=array(net["out"].weight),
        bias=array(net["out"].bias),
    )
