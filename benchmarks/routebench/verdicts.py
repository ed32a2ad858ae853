"""Ours against every honest baseline, by paired bootstrap over questions: one verdict a case and one a suite."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.routebench.bootstrap import Difference, Verdict, difference, interval
from benchmarks.routebench.scoring import Score

OURS = "ours"


@dataclass(frozen=True, slots=True)
class Judged:
    """`name` of a case or suite, `value` with its own 95 % interval, and the difference from each honest baseline.

    A suite of several cases has the mean of their primary metrics, drawn together.
    """

    name: str
    cases: tuple[str, ...]
    value: float
    low: float
    high: float
    target: float | None
    differences: Mapping[str, Difference]

    @property
    def verdict(self) -> Verdict:
        """Above only if above every baseline; below if below any."""
        found = {item.verdict for item in self.differences.values()}
        if "below" in found:
            return "below"
        return "tie" if "tie" in found else "above"

    @property
    def unbeaten(self) -> dict[str, Verdict]:
        """The baselines that ours is not above."""
        return {
            name: item.verdict for name, item in self.differences.items() if item.verdict != "above"
        }


def judge(
    name: str, cases: Sequence[str], scores: Sequence[Score], target: float | None
) -> Judged | None:
    """The verdict over one or several cases; None when ours has no value on one of them.

    A baseline that has no value on one of the cases is left out.
    """
    by_router: dict[str, list[Score]] = {}
    for score in scores:
        if score.case in cases and score.primary is not None:
            by_router.setdefault(score.router, []).append(score)
    complete = {router: found for router, found in by_router.items() if len(found) == len(cases)}
    if OURS not in complete:
        return None
    value, draws = _mean(complete[OURS])
    differences = {}
    for router, found in complete.items():
        if found[0].is_honest and not router.startswith(OURS):
            other, other_draws = _mean(found)
            differences[router] = difference(value, other, draws, other_draws)
    return Judged(name, tuple(cases), value, *interval(draws), target, differences)


def summary(headlines: Sequence[Judged], suites: int, others: Sequence[Judged]) -> list[str]:
    """The last lines: how many suites ours is above in, and where it is significantly below anything."""
    above = [item.name for item in headlines if item.verdict == "above"]
    below = [item.name for item in (*headlines, *others) if item.verdict == "below"]
    return [
        f"above every honest baseline in {len(above)} of {suites} suites ({', '.join(above) or 'none'})",
        f"significantly below a baseline in: {', '.join(below) or 'none'}",
    ]


def _mean(scores: Sequence[Score]) -> tuple[float, np.ndarray]:
    values = [score.primary for score in scores if score.primary is not None]
    return float(np.mean(values)), np.mean([score.draws for score in scores], axis=0)
