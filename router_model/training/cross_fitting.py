"""A teacher of small nets: each speaks of a prompt without having learned from it. Needs torch."""

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from router_model.training.dataset import Dataset
from router_model.training.head_training import FitRecipe, fit
from router_model.training.linear_maps import Fitted, Inputs

Floats = npt.NDArray[np.float32]


def folds_of(prompts: Sequence[str], count: int) -> npt.NDArray[np.int64]:
    """The fold [N] of every prompt, by its hash."""
    digests = (hashlib.sha256(f"fold:{prompt}".encode("utf-8", "replace")) for prompt in prompts)
    return np.array([int(digest.hexdigest()[:8], 16) % count for digest in digests])


def cross_fitted(
    dataset: Dataset,
    inputs: Inputs,
    recipe: FitRecipe,
    *,
    folds: int,
    seed: int,
    told: Callable[[float], None] = lambda _: None,
) -> Floats:
    """Logits [N, M]: of a training prompt from the net that did not see its fold, of any other the mean of all nets."""
    fold, train = folds_of(dataset.prompts, folds), dataset.rows_of("train")
    models = dataset.labels.shape[1]
    found = np.zeros((len(dataset.prompts), models), np.float32)
    mean = np.zeros_like(found)
    for number in range(folds):
        rows = train[fold[train] != number]
        net: Fitted = fit(
            dataset, inputs, rows, recipe, seed=seed + number,
            told=_part_of(told, number, folds),
        )  # fmt: skip
        logits = net.logits(inputs)[:, :models]
        found[fold == number] = logits[fold == number]
        mean += logits / folds
    others = dataset.parts != "train"
    found[others] = mean[others]
    return found


def _part_of(told: Callable[[float], None], number: int, count: int) -> Callable[[float], None]:
    return lambda share: told((number + share) / count)
