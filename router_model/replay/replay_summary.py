"""What a replay comes to: sums that compare only what is known of both choices. Pure, of constant size."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from router_model.replay.replayed_decisions import Figures, Redecided

QUANTITIES: Final = ("cost_usd", "seconds", "answered")


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """The sum of one quantity over the `count` requests that have it."""

    count: int = 0
    total: float = 0.0

    def add(self, value: float | None) -> "Total":
        """With one more request; unchanged where it is unknown."""
        if value is None:
            return self
        return Total(count=self.count + 1, total=self.total + value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """One total for each quantity."""

    cost_usd: Total = Total()
    seconds: Total = Total()
    answered: Total = Total()

    def add(self, figures: Figures) -> "Totals":
        return Totals(
            **{name: getattr(self, name).add(getattr(figures, name)) for name in QUANTITIES}
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Sums of one quantity over the `count` requests that have it for both choices."""

    count: int = 0
    was: float = 0.0
    would: float = 0.0

    def add(self, was: float | None, would: float | None) -> "Pair":
        """With one more request; unchanged where either is unknown."""
        if was is None or would is None:
            return self
        return Pair(count=self.count + 1, was=self.was + was, would=self.would + would)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One pair for each quantity."""

    cost_usd: Pair = Pair()
    seconds: Pair = Pair()
    answered: Pair = Pair()

    def add(self, was: Figures, would: Figures) -> "Comparison":
        return Comparison(
            **{
                name: getattr(self, name).add(getattr(was, name), getattr(would, name))
                for name in QUANTITIES
            }
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaySummary:
    """A whole replay.

    `measured` compares what the recording has for both choices, `expected` what is predicted for both. `answered` takes
    the measured answer where there is one, else the prediction, for each choice by itself; `measured_was` and
    `measured_would` say how many of those were measured. `recorded` is all that was measured of the recorded choices,
    `replayed_measured` and `replayed` all that was measured, and is expected, of the new ones.
    """

    requests: int = 0
    refused: int = 0
    changed: int = 0
    failed: int = 0
    without_choice: int = 0
    recorded: Totals = Totals()
    replayed: Totals = Totals()
    replayed_measured: Totals = Totals()
    measured: Comparison = Comparison()
    expected: Comparison = Comparison()
    answered: Pair = Pair()
    measured_was: int = 0
    measured_would: int = 0
    policies: Mapping[str, int] = field(default_factory=dict)
    """By routing policy: how many requests it was to rank."""
    policy_failures: int = 0
    """How many of those equation 2 ranked, because the policy failed."""
    services: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """By service: how many requests it had, and would have."""

    def add(self, redecided: Redecided) -> "ReplaySummary":
        """With one more request."""
        was, would = redecided.was, redecided.would
        counted = replace(
            self,
            requests=self.requests + 1,
            refused=self.refused + (would is None),
            changed=self.changed + redecided.is_changed,
            failed=self.failed + redecided.is_failed,
            without_choice=self.without_choice + (was is None),
            policies=_count_policy(self.policies, redecided),
            policy_failures=self.policy_failures
            + (redecided.decision is not None and redecided.decision.policy_fault is not None),
            services=_count(self.services, redecided),
        )
        if was is not None:
            counted = replace(counted, recorded=counted.recorded.add(was.measured))
        if would is not None:
            counted = replace(
                counted,
                replayed=counted.replayed.add(would.expected),
                replayed_measured=counted.replayed_measured.add(would.measured),
            )
        if was is None or would is None:
            return counted
        both = was.answered is not None and would.answered is not None
        return replace(
            counted,
            measured=counted.measured.add(was.measured, would.measured),
            expected=counted.expected.add(was.expected, would.expected),
            answered=counted.answered.add(was.answered, would.answered),
            measured_was=counted.measured_was + (both and was.measured.answered is not None),
            measured_would=counted.measured_would + (both and would.measured.answered is not None),
        )


def _count(
    known: Mapping[str, tuple[int, int]], redecided: Redecided
) -> dict[str, tuple[int, int]]:
    counts = dict(known)
    for choice, was, would in ((redecided.was, 1, 0), (redecided.would, 0, 1)):
        if choice is not None:
            before = counts.get(choice.service, (0, 0))
            counts[choice.service] = (before[0] + was, before[1] + would)
    return counts


def _count_policy(known: Mapping[str, int], redecided: Redecided) -> Mapping[str, int]:
    name = None if redecided.decision is None else redecided.decision.policy
    return known if name is None else {**known, name: known.get(name, 0) + 1}
