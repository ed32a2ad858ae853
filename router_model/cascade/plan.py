"""Cascades: a small model answers first, a larger one only where the small one was unsure. Pure policy.

The router makes the plan (`plan_cascade`): of every step's model the service that ranks best. The worker of a step
judges its own answer (`Judge`): below the least confidence, and where the model server gave no log probabilities
at all, the request goes on to the next step. The last step always answers. Source of the policy: FrugalGPT (Chen et al.
2023); of confidence as the rule of deferral: see `router_model.cascade.confidence`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from events.cascade_attribute import present
from events.payloads import CascadeInfo, CascadePlace, CascadeState, CascadeUsed, Cost
from router_model.cascade.confidence import Measure, Points, TokenConfidence, calibrate
from router_model.catalogue.model import Cascade, Judging
from router_model.routing.decision import CandidateTerms

Verdict = Literal["answer", "escalate"]
STAND_BY: Final = "fallback"
"""Name of a plan for failures, where a cascade has its own."""
MIN_PLACES: Final = 2
"""A plan of fewer has nobody to take over."""
_NO_JUDGING: Final = Judging()


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """How a step that is not the last judges its answer. `hold_tokens` None: a stream is held until it is complete."""

    min_confidence: float
    measure: Measure = "geometric_mean"
    points: Points = ()
    hold_tokens: int | None = None

    def confidence(self, choices: Sequence[TokenConfidence]) -> float | None:
        """The calibrated chance of the least sure choice, in [0, 1]; None where any of them has no token."""
        raws = [choice.raw(self.measure) for choice in choices]
        known = [raw for raw in raws if raw is not None]
        if not known or len(known) < len(raws):
            return None
        return calibrate(min(known), self.points)

    def verdict(self, confidence: float | None) -> Verdict:
        """Whether an answer is given to the caller; what is not known counts as unsure."""
        is_sure = confidence is not None and confidence >= self.min_confidence
        return "answer" if is_sure else "escalate"

    def may_release(self, choices: Sequence[TokenConfidence]) -> bool:
        """Whether a stream need not be held any longer: every choice has `hold_tokens` tokens and they are sure."""
        if self.hold_tokens is None or not choices:
            return False
        if min(choice.count for choice in choices) < self.hold_tokens:
            return False
        return self.verdict(self.confidence(choices)) == "answer"


def plan_cascade(name: str, cascade: Cascade, chosen: Sequence[CandidateTerms]) -> CascadeState:
    """The plan of a decision: `chosen` is the service of the first step and of each later one that has any."""
    places = (
        CascadePlace(
            service=terms.service,
            model=terms.model,
            min_confidence=_threshold(cascade, terms.model),
        )
        for terms in chosen
    )
    return CascadeState(name=name, plan=tuple(places))


def plan_stand_by(places: Sequence[CandidateTerms]) -> CascadeState | None:
    """The plan of a decision that is no cascade: the chosen service, then those that take over should it fail. None
    where none does.
    """
    if len(places) < MIN_PLACES:
        return None
    plan = tuple(CascadePlace(service=one.service, model=one.model) for one in places)
    return CascadeState(name=STAND_BY, plan=plan, on="failure")


def make_judge(state: CascadeState | None, cascades: Mapping[str, Cascade]) -> Judge | None:
    """How the step under way judges; None at the last step, among services that stand by, and outside cascades.

    The threshold travels with the request; measure and calibration are those of the worker's own catalogue
    (`cascades`), whose model it is.
    """
    if state is None or state.on == "failure" or len(state.used) + 1 >= len(state.plan):
        return None
    place = present(state)
    cascade = cascades.get(state.name)
    if cascade is None:
        return Judge(min_confidence=place.min_confidence)
    own = cascade.judging.get(place.model, _NO_JUDGING)
    return Judge(
        min_confidence=place.min_confidence,
        measure=own.measure or cascade.measure,
        points=own.calibration,
        hold_tokens=cascade.hold_tokens if own.hold_tokens is None else own.hold_tokens,
    )


def summarise_cascade(state: CascadeState, last: CascadeUsed | None = None) -> CascadeInfo | None:
    """What the caller is told when `last` has ended the request; None: it ended before its step was called. Nothing
    where no service that stood by was needed.
    """
    if state.on == "failure" and not state.used:
        return None
    is_answer = last is not None and last.outcome == "answered"
    return CascadeInfo(
        name=state.name,
        steps=state.used if last is None else (*state.used, last),
        confidence=last.confidence if last is not None and is_answer else None,
        escalated=bool(state.used),
    )


def sum_costs(state: CascadeState | None, cost: Cost) -> Cost:
    """The cost of a step together with that of all earlier ones."""
    costs = [] if state is None else [used.cost for used in state.used]
    return Cost(
        usd=cost.usd + sum(one.usd for one in costs),
        gpu_s=cost.gpu_s + sum(one.gpu_s for one in costs),
    )


def _threshold(cascade: Cascade, model: str) -> float:
    own = cascade.judging.get(model, _NO_JUDGING).min_confidence
    return cascade.min_confidence if own is None else own
