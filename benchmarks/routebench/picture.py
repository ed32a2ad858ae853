"""One picture for each suite: accuracy over the share of strong calls (pairs) or over cost (pools)."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks.routebench.running import Results
from benchmarks.routebench.scoring import Score
from benchmarks.routebench.stages import stages_of
from benchmarks.routebench.suites import Case, Suites
from benchmarks.routebench.verdicts import OURS

COLOURS = dict(
    zip(
        (
            "hull of singles",
            "TF-IDF + LR",
            "kNN MiniLM",
            "LiteLLM complexity",
            "prompt length",
            "keyword",
            "random",
            "category mean",
            "oracle",
        ),
        mpl.color_sequences["tab10"],
        strict=False,
    )
)
_DASHES = {
    f"{OURS} {stage}": dashes
    for stage, dashes in zip(stages_of(None), ("-.", "--", ":", (0, (1, 1))), strict=True)
}
"""Stages of ours share a colour."""
SINGLES = ("always small", "always large", "best single")


def draw_suites(results: Results, suites: Suites, folder: Path) -> list[Path]:
    """Writes `<suite>.png` for each suite with a measured case."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for suite, title in suites.suites.items():
        cases = [
            case for case in suites.cases if case.suite == suite and case.name in results.questions
        ]
        if cases:
            path = folder / f"{suite}.png"
            _draw(cases, results.scores, f"{suite}: {title}", path)
            written.append(path)
    return written


def _draw(cases: Sequence[Case], scores: Sequence[Score], title: str, path: Path) -> None:
    figure, axes = plt.subplots(
        1, len(cases), figsize=(6.4 * len(cases), 5.2), squeeze=False, layout="constrained"
    )
    for case, axis in zip(cases, axes[0], strict=True):
        found = [score for score in scores if score.case == case.name]
        (_pair if case.kind == "pair" else _pool)(case, found, axis)
        axis.grid(alpha=0.3)
        axis.set_ylabel("accuracy")
        axis.legend(fontsize=7, loc="lower right")
    figure.suptitle(title)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _pair(case: Case, scores: Sequence[Score], axis: Axes) -> None:
    for score in sorted(scores, key=lambda found: -(found.primary or 0)):
        if score.curve:
            axis.plot(*zip(*score.curve, strict=True), label=_label(score), **_style(score))
    weak, strong = case.models
    axis.set_title(f"{case.name}: {weak} to {strong}", fontsize=8)
    axis.set_xlabel("share of calls to the strong model")


def _pool(case: Case, scores: Sequence[Score], axis: Axes) -> None:
    dearest = max(point[0] for score in scores if score.router in SINGLES for point in score.curve)
    for score in sorted(scores, key=lambda found: -(found.primary or 0)):
        if score.router in SINGLES:
            axis.scatter(
                *zip(*score.curve, strict=True), s=24, marker="s", zorder=3, label=_label(score)
            )
        elif score.router != "random":
            points = [*score.curve, (max(dearest, score.curve[-1][0]), score.curve[-1][1])]
            axis.plot(*zip(*points, strict=True), label=_label(score), **_style(score))
    axis.set_title(f"{case.name}: {len(case.models)} models", fontsize=8)
    axis.set_xlabel("USD a question")


def _style(score: Score) -> dict[str, object]:
    if score.router == OURS:
        return {"linewidth": 2.6, "color": "black", "zorder": 4}
    if score.router.startswith(OURS):
        return {"linewidth": 1.2, "color": "dimgray", "linestyle": _DASHES[score.router]}
    colour = COLOURS.get(score.router)
    return {"linewidth": 1.2, "linestyle": "-" if score.is_honest else ":", "color": colour}


def _label(score: Score) -> str:
    value = "" if score.primary is None else f" {score.primary:.3f}"
    return f"{score.router}{value}{'' if score.is_honest else ' (not honest)'}"
