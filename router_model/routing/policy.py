"""Routing policies: in which order the services that may answer a request are preferred.

A policy of one's own is one file and one line of the catalogue: `policy: package.module:Name`.
`load_policies` loads it when a process starts that routes; `LoadedPolicy` asks it for each decision.
Without one, Equation 2 decides (`router_model.routing.scoring`).
"""

import importlib
import inspect
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import msgspec

from router_model.catalogue.model import Catalogue
from router_model.classifier.keyword_rules import Classification
from router_model.routing.context import RouteRequest, RoutingContext
from router_model.routing.decision import CandidateTerms


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyContext(RoutingContext):
    """What a policy may know: all that a decision is made from, read-only."""

    request: RouteRequest
    profile: str
    """Name of the profile in force."""
    classification: Classification
    """Of the prompt that the candidates are ranked for."""


class RoutingPolicy(Protocol):
    """Orders the candidates of a decision.

    It is called in the thread that decides, in several threads at once, and perhaps several times for one request:
    it keeps no state, and does not wait for anything.
    """

    def rank(
        self, candidates: Sequence[CandidateTerms], context: PolicyContext
    ) -> Sequence[CandidateTerms]:
        """The candidates, best first; those left out come last, in the order of Equation 2.

        `candidates` are in the order of Equation 2, each with its terms and score.
        """
        ...


class PolicyUnusable(Exception):
    """A policy that the catalogue names cannot be used; `path` is its key there."""

    def __init__(self, path: str, name: str, reason: str) -> None:
        super().__init__(f"the policy {name!r} cannot be used: {reason}")
        self.path = path


class PolicyFailed(Exception):
    """A policy did not rank the candidates of one decision; the message names no content of the request."""


@dataclass(frozen=True, slots=True)
class LoadedPolicy:
    """A policy, and the catalogue as it sees it: a read-only copy."""

    policy: RoutingPolicy
    catalogue: Catalogue

    def __post_init__(self) -> None:
        object.__setattr__(self, "catalogue", _read_only(self.catalogue))

    def rank(
        self, candidates: Sequence[CandidateTerms], context: PolicyContext
    ) -> tuple[CandidateTerms, ...]:
        """All candidates in the policy's order.

        Raises:
            PolicyFailed: it raised, or returned what is not an order of the candidates.
        """
        known = {terms.service: terms for terms in candidates}
        seen = replace(
            context,
            catalogue=self.catalogue,
            registry=context.registry.read_only(),
            policies=MappingProxyType(context.policies),
        )
        try:
            ranked = self.policy.rank(tuple(candidates), seen)
            services = [_name_service(one) for one in islice(ranked, len(known) + 1)]
            strangers = [f"{one!r:.80}" for one in services if one not in known]
        except BaseException as error:  # whatever it raises: a request must not end a router
            raise PolicyFailed(f"it raised {type(error).__name__}{_place_of(error)}") from error
        if strangers:
            raise PolicyFailed(f"it returned {strangers[0]}, which is no candidate")
        if not services:
            raise PolicyFailed("it returned no candidate")
        if len(set(services)) < len(services):
            raise PolicyFailed("it returned a candidate twice")
        rest = [service for service in known if service not in services]
        return tuple(known[service] for service in (*services, *rest))


def load_policies(catalogue: Catalogue, folder: Path | None = None) -> dict[str, LoadedPolicy]:
    """Every policy that the catalogue names, by name.

    Args:
        catalogue: a checked one.
        folder: where modules are looked for that are not installed.

    Raises:
        PolicyUnusable: one cannot be imported, or is no policy.
    """
    named = list_policies(catalogue)
    if named and folder is not None and str(folder) not in sys.path:
        sys.path.append(str(folder))  # last: a file there never hides an installed module
    return {name: LoadedPolicy(_load(path, name), catalogue) for name, path in named.items()}


def list_policies(catalogue: Catalogue) -> dict[str, str]:
    """Every policy that the catalogue names, with the key where it does first."""
    profiles = [(f"profiles.{name}.policy", one.policy) for name, one in catalogue.profiles.items()]
    every = [("policy", catalogue.policy), *profiles]
    return {name: path for path, name in reversed(every) if name is not None}


def name_policy(catalogue: Catalogue, profile: str) -> str | None:
    """Name of the policy that decides under a profile: the profile's, else the catalogue's; None: Equation 2."""
    return catalogue.profiles[profile].policy or catalogue.policy


def find_policy(context: RoutingContext, name: str) -> LoadedPolicy:
    """The loaded policy of that name.

    Raises:
        PolicyFailed: whoever decides did not load it.
    """
    if name not in context.policies:
        raise PolicyFailed("it is not loaded")
    return context.policies[name]


def _load(path: str, name: str) -> RoutingPolicy:
    module, _, attribute = name.partition(":")
    try:
        imported = importlib.import_module(module)
        named = getattr(imported, attribute, None)
        policy: Any = named() if isinstance(named, type) else named
        rank = getattr(policy, "rank", None)
    except BaseException as error:  # an import may raise anything, and is said in one sentence
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise PolicyUnusable(path, name, f"{why:.300}") from error
    if named is None:
        where = getattr(imported, "__file__", None) or "the interpreter"
        raise PolicyUnusable(path, name, f"{module} (of {where}) has no {attribute}")
    if not callable(rank):
        raise PolicyUnusable(path, name, "it has no method rank(candidates, context)")
    try:
        inspect.signature(rank).bind((), None)
    except (TypeError, ValueError) as error:
        raise PolicyUnusable(
            path, name, f"it cannot be called as rank(candidates, context): {error}"
        ) from error
    if inspect.iscoroutinefunction(rank):
        raise PolicyUnusable(path, name, "rank is a coroutine, and nothing awaits it")
    loaded: RoutingPolicy = policy
    return loaded


def _name_service(candidate: object) -> Any:
    """The service of a candidate; anything else stands for itself, to be named as no candidate."""
    return candidate.service if isinstance(candidate, CandidateTerms) else repr(candidate)


def _place_of(error: BaseException) -> str:
    """File and line that raised; the message may hold a prompt and is not said."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return ""
    return f" ({Path(trace.tb_frame.f_code.co_filename).name}, line {trace.tb_lineno})"


def _read_only(value: Any) -> Any:
    """A struct, with every mapping in it read-only."""
    if isinstance(value, msgspec.Struct):
        names = value.__struct_fields__
        return type(value)(**{name: _read_only(getattr(value, name)) for name in names})
    if isinstance(value, tuple):
        return tuple(map(_read_only, value))
    if isinstance(value, Mapping):
        return MappingProxyType({key: _read_only(item) for key, item in value.items()})
    return value


def add_request(
    context: RoutingContext, request: RouteRequest, profile: str, classification: Classification
) -> PolicyContext:
    """The context of a decision, with the request that is decided."""
    known = {field.name: getattr(context, field.name) for field in fields(RoutingContext)}
    return PolicyContext(**known, request=request, profile=profile, classification=classification)
