"""Two looks beyond the training questions: a benchmark left out, and prompts like none that were learned from."""

import random
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from benchmarks.routebench import pair_metrics
from benchmarks.routebench.predictors import Predictor
from benchmarks.routebench.questions import Questions

MIN_SCORED: Final = 30
MIN_GAP: Final = 0.05
"""A smaller lead of the strong model makes APGR a ratio of noise."""
_SYLLABLES: Final = ("ka", "tor", "mi", "shen", "vu", "lop", "re", "zan", "qui", "do", "fra", "ix")
_SCRIPTS: Final = ((0x0400, 0x044F), (0x0905, 0x0939), (0x4E00, 0x4FFF), (0x0E01, 0x0E2E))


def left_out_benchmarks(
    train: Questions, scored: Questions, make: Callable[[], Predictor]
) -> dict[str, float]:
    """APGR of a router on each benchmark of a pair's case, trained on the other benchmarks only.

    Benchmarks with fewer than 30 scored questions, or a strong model less than 0.05 better, are left out.
    """
    found = {}
    for benchmark in sorted(set(scored.benchmarks)):
        kept = train.only(np.array([name != benchmark for name in train.benchmarks]))
        asked = scored.only(np.array([name == benchmark for name in scored.benchmarks]))
        weak, strong = asked.scores.T
        if len(asked) < MIN_SCORED or strong.mean() - weak.mean() < MIN_GAP or not len(kept):
            continue
        router = make()
        router.fit(kept)
        scores = router.pair_scores(asked.prompts, *asked.models)
        found[benchmark] = pair_metrics.apgr(scores, weak, strong)
    return found


def strange_prompts(count: int = 200, seed: int = 0) -> Sequence[str]:
    """Made-up words, other scripts, noise of keys and of bytes, in turn. The same each time."""
    dice = random.Random(seed)
    makers = (_made_up, _other_script, _keys, _digits)
    return [makers[number % len(makers)](dice) for number in range(count)]


def _made_up(dice: random.Random) -> str:
    words = ("".join(dice.choices(_SYLLABLES, k=dice.randint(1, 4))) for _ in range(40))
    return " ".join(words)


def _other_script(dice: random.Random) -> str:
    first, last = dice.choice(_SCRIPTS)
    words = (
        "".join(chr(dice.randint(first, last)) for _ in range(dice.randint(2, 8)))
        for _ in range(20)
    )
    return " ".join(words)


def _keys(dice: random.Random) -> str:
    return "".join(dice.choices("asdfjkl;qweruiop zxcvnm,./", k=160))


def _digits(dice: random.Random) -> str:
    return " ".join(f"{dice.getrandbits(32):08x}" for _ in range(24))
