"""Recovery of broken services: a pure reducer for each workload, from what its pods show to which one is replaced.

Kubernetes restarts a failed container at once, then after 10 s, 20 s, up to 5 minutes, and never gives up a pod that
loads for ever. Here a pod whose containers keep failing is replaced as soon as that is seen, and one that has not
become ready within its service's own time too: a few times, later and later. Then it is left to Kubernetes, and said.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Literal

from functions.controller.actions import Notice, Write
from functions.controller.pods import Pod
from functions.ports.kubernetes import PODS

FORGET_S: Final = 900.0
"""Tries are forgotten this long after the last one."""
_NOT_LATER_THAN: Final = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryTerms:
    """`tries` replacements, `backoff_s` apart and doubled each time; `missing_s` without a ready one is too long."""

    tries: int
    backoff_s: float
    missing_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """One workload now. `wanted` is its replica count; `ready` how many of them are."""

    now_s: float
    wanted: int
    ready: int
    pods: tuple[Pod, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What to do. `pod` is replaced, or (`is_left`) left to Kubernetes from now on."""

    pod: Pod
    reason: Literal["crashing", "never_ready"]
    attempt: int
    is_left: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """Memory of one workload between two looks; `step` returns the next one."""

    tries: int = 0
    last_s: float | None = None
    missing_since_s: float | None = None
    has_left: bool = False

    def step(self, sight: Sight, terms: RecoveryTerms) -> "tuple[Recovery, Verdict | None]":
        """Folds one look in. At most one pod of a workload is replaced at a time."""
        known = self._aged(sight)
        found = _broken(sight, known.missing_since_s, terms)
        if found is None or known.has_left:
            return known, None
        pod, reason = found
        if known.tries >= terms.tries:
            verdict = Verdict(pod=pod, reason=reason, attempt=known.tries, is_left=True)
            return replace(known, has_left=True), verdict
        wait_s = terms.backoff_s * 2.0 ** min(known.tries - 1, _NOT_LATER_THAN)
        if known.last_s is not None and sight.now_s - known.last_s < wait_s:
            return known, None
        tries = known.tries + 1
        following = replace(known, tries=tries, last_s=sight.now_s, missing_since_s=sight.now_s)
        return following, Verdict(pod=pod, reason=reason, attempt=tries)

    def _aged(self, sight: Sight) -> "Recovery":
        is_missing = sight.wanted > 0 and sight.ready == 0
        since_s = self.missing_since_s if self.missing_since_s is not None else sight.now_s
        found = replace(self, missing_since_s=since_s if is_missing else None)
        if found.last_s is not None and sight.now_s - found.last_s >= FORGET_S:
            found = replace(found, tries=0, last_s=None, has_left=False)
        return found


def _broken(
    sight: Sight, missing_since_s: float | None, terms: RecoveryTerms
) -> tuple[Pod, Literal["crashing", "never_ready"]] | None:
    present = sorted(
        (pod for pod in sight.pods if not pod.is_leaving and not pod.is_stuck),
        key=lambda pod: (pod.created_at, pod.name),
    )
    if sight.wanted == 0:
        return None
    crashing = next((pod for pod in present if pod.is_crashing), None)
    if crashing is not None:
        return crashing, "crashing"
    is_late = missing_since_s is not None and sight.now_s - missing_since_s >= terms.missing_s
    late = next((pod for pod in present if not pod.is_ready), None) if is_late else None
    return None if late is None else (late, "never_ready")


_WORDS: Final = {
    "crashing": "its containers keep failing",
    "never_ready": "no replica became ready in time",
}


def actions(verdicts: Iterable[Verdict], tries: int) -> tuple[Write | Notice, ...]:
    """The writes and notices of verdicts."""
    return tuple(_action(verdict, tries) for verdict in verdicts)


def _action(verdict: Verdict, tries: int) -> Write | Notice:
    pod, why = verdict.pod, _WORDS[verdict.reason]
    if verdict.is_left:
        return Notice(
            about=pod.reference(),
            reason="RecoveryGivenUp",
            message=f"Service {pod.service}: {why}; replaced {tries} times, now left to Kubernetes.",
            type="Warning",
        )
    notice = Notice(
        about=pod.reference(),
        reason="PodReplaced",
        message=f"Service {pod.service}: {why}; attempt {verdict.attempt} of {tries}.",
        type="Warning",
    )
    return Write(
        verb="delete",
        resource=PODS,
        namespace=pod.namespace,
        name=pod.name,
        body={},
        uid=pod.uid,
        notice=notice,
    )
