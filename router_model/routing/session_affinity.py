"""Affinity: a conversation keeps its model while that will do, and requests of one session go to one of several
services that are as good, so that the cache of its prompt prefix is found again.

No state is kept here. Rendezvous hashing (highest random weight) over the session and the service names gives every
session its own order of services; a service that comes or goes moves only the sessions that it takes or had. Within the
service, the session is the record key, so the partition and with it the replica stay the same.
"""

import hashlib
from collections.abc import Sequence

from router_model.routing.decision import CandidateTerms


def choose_for_session(
    ranked: Sequence[CandidateTerms],
    session: str | None,
    *,
    tenant: str,
    margin: float,
    by_score: bool = True,
) -> CandidateTerms:
    """The candidate for a session: of those nearly as good as the best, the one with the highest hash.

    `ranked` is not empty and best first. Without a session, or with a margin of 0, the best. `by_score` False: a policy
    has ranked them, so that a near score alone makes nothing as good as its best.
    """
    best = ranked[0]
    if session is None or margin <= 0:
        return best
    near = [terms for terms in ranked if is_near(terms, best, margin, by_score=by_score)]
    return max(near, key=lambda terms: (_weight(tenant, session, terms.service), terms.service))


def filter_for_conversation(
    ranked: Sequence[CandidateTerms], home: str | None, *, margin: float
) -> Sequence[CandidateTerms]:
    """What a conversation may choose among: the services of the model that it has been with (`home`), or all.

    All, where that model has no candidate any more, and where the best candidate is more likely to answer well by more
    than the margin; with a margin of 0 always. `ranked` is not empty and best first, and so is what is returned.
    """
    own = [terms for terms in ranked if terms.model == home]
    if margin <= 0 or not own or ranked[0].relevance > own[0].relevance + margin:
        return ranked
    return own


def is_near(
    terms: CandidateTerms, best: CandidateTerms, margin: float, *, by_score: bool = True
) -> bool:
    """Whether a candidate's score is within the margin of the best, or each of its raw terms is: R absolutely, T and C
    relative to the best's.

    The raw terms count because min-max over two candidates makes a millisecond as wide as a minute. Without `by_score`
    they alone do, and must not be better by more than the margin either.
    """
    if by_score:
        return terms.score >= best.score - margin or _is_no_worse(terms, best, margin)
    return _is_no_worse(terms, best, margin) and _is_no_worse(best, terms, margin)


def _is_no_worse(terms: CandidateTerms, other: CandidateTerms, margin: float) -> bool:
    return (
        terms.relevance >= other.relevance - margin
        and terms.finish_s <= other.finish_s * (1 + margin)
        and terms.cost_usd <= other.cost_usd * (1 + margin)
    )


def _weight(tenant: str, session: str, service: str) -> bytes:
    key = f"{tenant}\0{session}\0{service}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(key, digest_size=8).digest()
