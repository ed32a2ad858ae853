"""Metrics of predicted success: calibration, and tiers by the cheapest model that is right. Pure functions."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def calibration_error(predicted: Array, happened: Array, bins: int = 15) -> float:
    """ECE: mean distance of predicted from observed success over `bins` equal bins of [0, 1], by their share."""
    predicted, happened = predicted.ravel(), happened.ravel()
    place = np.minimum((np.clip(predicted, 0, 1) * bins).astype(int), bins - 1)
    distance = sum(
        abs(float(predicted[place == index].sum() - happened[place == index].sum()))
        for index in np.unique(place)
    )
    return distance / len(predicted)


def needed_tier(scores: Array) -> NDArray[np.intp]:
    """Index of the cheapest model that is right (score above 0.5), the lowest where none is. Columns rise in price."""
    right = scores > 0.5
    return np.where(right.any(axis=1), right.argmax(axis=1), 0)


def predicted_tier(success: Array, prior: Array) -> NDArray[np.intp]:
    """The tier whose chance of being needed exceeds its prior the most.

    The models are taken as independent: tier k is needed when it is right and all below are wrong, and the lowest also
    when none is right. `prior` is the share of each tier among training questions; dividing by it aims at balance.
    """
    wrong = np.cumprod(1 - success, axis=1)
    below = np.hstack([np.ones((len(success), 1)), wrong[:, :-1]])
    chance = success * below
    chance[:, 0] += wrong[:, -1]
    return np.argmax(chance / np.maximum(prior, 1e-9), axis=1)


def balanced_accuracy(predicted: NDArray[np.intp], needed: NDArray[np.intp]) -> float:
    """Mean over the tiers that occur of the share of their questions that got them."""
    shares = [np.mean(predicted[needed == tier] == tier) for tier in np.unique(needed)]
    return float(np.mean(shares))
