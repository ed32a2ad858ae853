"""A policy that the catalogue names ranks; one that fails costs a decision of its own and no request."""

import asyncio
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import FrozenInstanceError, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from events.names import Operation, ReplicaState
from events.payloads import StatusData
from examples.least_busy import LeastBusy
from router_model.catalogue.edit import with_profile
from router_model.catalogue.loader import CatalogueRejected, load_catalogue
from router_model.catalogue.model import Catalogue, Profile
from router_model.classifier.features import PromptFeatures
from router_model.classifier.keyword_rules import KeywordClassifier
from router_model.routing.context import RouteRequest, RoutingContext
from router_model.routing.decision import CandidateTerms, Decision
from router_model.routing.policy import (
    LoadedPolicy,
    PolicyContext,
    PolicyUnusable,
    RoutingPolicy,
    load_policies,
)
from router_model.routing.scoring import Equation2
from router_model.routing.select import decide
from router_model.service_registry import Registry

NOW = datetime(2026, 12, 1, tzinfo=UTC)
NAME = "mine:Policy"
TEXT = """
models:
  - {id: a, weights: {path: /a.gguf}, quality: {low: 0.9, medium: 0.9, high: 0.9}}
  - {id: b, weights: {path: /b.gguf}, quality: {low: 0.85, medium: 0.85, high: 0.85}}
  - {id: c, weights: {path: /c.gguf}, quality: {low: 0.2, medium: 0.2, high: 0.2}}
services: [{model: a}, {model: b}, {model: c}]
aliases: {nick: a}
fallbacks: {a: [c]}
"""
FLEET = load_catalogue(TEXT + f"policy: {NAME}\n")
FEATURES = PromptFeatures(operation=Operation.CHAT, text="hello", tokens=10, least_tokens=2)
Rank = Callable[[Sequence[CandidateTerms], PolicyContext], Any]


def warm(**taken: int) -> Registry:
    registry = Registry()
    for service in ("a", "b", "c"):
        registry = registry.apply(
            StatusData(
                service=service, replica="0", state=ReplicaState.READY, at=NOW, concurrency=4,
                in_flight=taken.get(service, 0),
            )
        )  # fmt: skip
    return registry


def choose(
    policy: RoutingPolicy | None, *, registry: Registry | None = None, **fields: Any
) -> Decision:
    request = RouteRequest(**{"model": "auto", "features": FEATURES, **fields})
    loaded = {} if policy is None else {NAME: LoadedPolicy(policy, FLEET)}
    context = RoutingContext(
        catalogue=FLEET,
        registry=registry or warm(),
        now=NOW,
        classifier=KeywordClassifier(),
        policies=loaded,
    )
    return decide(request, context)


class Ranks:
    """A policy out of a function."""

    def __init__(self, rank: Rank) -> None:
        self._rank = rank

    def rank(self, candidates: Sequence[CandidateTerms], context: PolicyContext) -> Any:
        return self._rank(candidates, context)


BACKWARDS = Ranks(lambda candidates, _: candidates[::-1])


def test_the_order_of_the_policy_decides_and_is_named() -> None:
    plain = choose(Equation2())
    found = choose(BACKWARDS)
    assert [one.service for one in found.candidates] == ["c", "b", "a"]
    assert (found.service, found.policy, found.policy_fault) == ("c", NAME, None)
    assert found.score == plain.candidates[2].score
    assert found.cascade is not None
    assert [place.service for place in found.cascade.plan] == ["c", "b"]


def test_what_a_policy_leaves_out_comes_last_by_equation_2() -> None:
    found = choose(Ranks(lambda candidates, _: [candidates[1]]))
    assert [one.service for one in found.candidates] == ["b", "a", "c"]


def raise_error(candidates: Sequence[CandidateTerms], context: PolicyContext) -> Any:
    raise ValueError(context.request.features.text)


def leave(candidates: Sequence[CandidateTerms], context: PolicyContext) -> Any:
    sys.exit(3)


def endless(candidates: Sequence[CandidateTerms], context: PolicyContext) -> Iterator[Any]:
    while True:
        yield candidates[0]


def strange(candidates: Sequence[CandidateTerms], context: PolicyContext) -> Any:
    return [replace(candidates[0], service="elsewhere")]


def deep(candidates: Sequence[CandidateTerms], context: PolicyContext) -> Any:
    return deep(candidates, context)


def cancel(candidates: Sequence[CandidateTerms], context: PolicyContext) -> Any:
    raise asyncio.CancelledError


class Unprintable(str):
    __slots__ = ()

    def __repr__(self) -> str:
        raise ValueError("no text")


def unprintable(candidates: Sequence[CandidateTerms], context: PolicyContext) -> Any:
    return [replace(candidates[0], service=Unprintable("elsewhere"))]


@pytest.mark.parametrize(
    ("rank", "fault"),
    [
        (cancel, "it raised CancelledError"),
        (unprintable, "it raised ValueError"),
        (lambda candidates, context: context.policies.clear(), "it raised AttributeError"),
        (raise_error, "it raised ValueError (test_policies_of_ones_own.py, line"),
        (leave, "it raised SystemExit"),
        (deep, "it raised RecursionError"),
        (endless, "it returned a candidate twice"),
        (strange, "it returned 'elsewhere', which is no candidate"),
        (lambda *_: [], "it returned no candidate"),
        (lambda *_: None, "it raised TypeError"),
        (lambda *_: ["a"], "it returned \"'a'\", which is no candidate"),
        (lambda candidates, _: candidates.sort(), "it raised AttributeError"),
        (lambda candidates, context: context.registry.entries.clear(), "it raised AttributeError"),
        (lambda candidates, context: context.catalogue.aliases.clear(), "it raised AttributeError"),
        (lambda candidates, context: setattr(context, "now", None), "it raised FrozenInstance"),
        (
            lambda candidates, context: context.catalogue.models[0].quality.update(low=0),
            "it raised AttributeError",
        ),
    ],
)
def test_a_policy_that_fails_leaves_the_decision_to_equation_2(rank: Rank, fault: str) -> None:
    plain = choose(Equation2())
    found = choose(Ranks(rank))
    assert found.policy_fault is not None
    assert found.policy_fault.startswith(fault)
    assert "hello" not in found.policy_fault
    assert replace(found, policy_fault=None) == plain


def test_a_policy_that_nobody_loaded_leaves_the_decision_to_equation_2() -> None:
    found = choose(None)
    assert found.policy_fault == "it is not loaded"
    assert replace(found, policy_fault=None) == choose(Equation2())


def test_a_policy_knows_the_request_and_the_class() -> None:
    seen: list[PolicyContext] = []

    def look(candidates: Sequence[CandidateTerms], context: PolicyContext) -> Any:
        seen.append(context)
        return candidates

    choose(Ranks(look), tenant="acme", session="s1")
    (context,) = seen
    assert (context.request.tenant, context.request.session) == ("acme", "s1")
    assert (context.profile, context.classification.route_class) == ("balanced", "medium")
    assert context.catalogue == FLEET
    assert context.registry == warm()


def test_where_there_is_nothing_to_choose_no_policy_is_asked() -> None:
    found = choose(Ranks(raise_error), model="nick", fallback="none")
    assert (found.service, found.policy_fault) == ("a", None)


def test_a_session_stays_only_where_each_term_is_nearly_as_good() -> None:
    for session in ("s1", "s2", "s3", "s4", "s5"):
        assert choose(BACKWARDS, session=session).service == "c"


def test_a_profile_may_name_its_own_policy_or_equation_2() -> None:
    text = TEXT + (
        f"policy: {NAME}\n"
        "profiles:\n"
        "  balanced: {alpha: 1, latency: 1, cost: 1}\n"
        "  plain: {alpha: 1, latency: 1, cost: 1,"
        " policy: 'router_model.routing.scoring:Equation2'}\n"
    )
    catalogue = load_catalogue(text)
    policies = load_policies(
        msgspec.structs.replace(catalogue, policy=None)
    ) | {NAME: LoadedPolicy(BACKWARDS, catalogue)}  # fmt: skip
    context = RoutingContext(
        catalogue=catalogue, registry=warm(), now=NOW, classifier=KeywordClassifier(),
        policies=policies,
    )  # fmt: skip
    request = RouteRequest(model="auto", features=FEATURES)
    assert decide(request, context).service == "c"
    assert decide(replace(request, profile="plain"), context).service == "a"


@pytest.mark.parametrize("name", ["", "mine", "mine:", ":Policy", "a b:C", "a..b:C", "a:B.c"])
def test_a_name_of_another_form_is_refused_with_its_place(name: str) -> None:
    for text, path in [
        (f"policy: '{name}'\n", "policy"),
        (
            f"profiles: {{balanced: {{alpha: 1, latency: 1, cost: 1, policy: '{name}'}}}}\n",
            "profiles.balanced.policy",
        ),
    ]:
        with pytest.raises(CatalogueRejected) as caught:
            load_catalogue(TEXT + text)
        (problem,) = caught.value.problems
        assert (problem.path, problem.message) == (path, "must be package.module:Name")


SOURCE = """
class Policy:
    def rank(self, candidates, context):
        return candidates

class Needs:
    def __init__(self, something):
        pass

class Other:
    rank = 3

class Few:
    def rank(self, candidates):
        return candidates

class Later:
    async def rank(self, candidates, context):
        return candidates

policy = Policy()
text = "no policy"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "own_policies.py").write_text(SOURCE)
    (tmp_path / "broken_policy.py").write_text("def rank(:\n")
    (tmp_path / "leaving_policy.py").write_text("raise SystemExit(0)\n")
    return tmp_path


def of_name(name: str) -> Catalogue:
    return load_catalogue(TEXT + f"policy: '{name}'\n")


@pytest.mark.parametrize("name", ["own_policies:Policy", "own_policies:policy"])
def test_a_module_beside_the_catalogue_is_found(folder: Path, name: str) -> None:
    assert list(load_policies(of_name(name), folder)) == [name]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("absent_policy:Policy", "ModuleNotFoundError: No module named 'absent_policy'"),
        ("own_policies:Absent", "own_policies (of /"),
        ("json:Absent", "json (of /"),
        ("own_policies:Needs", "TypeError: Needs.__init__() missing 1 required positional"),
        ("own_policies:Other", "it has no method rank(candidates, context)"),
        ("own_policies:text", "it has no method rank(candidates, context)"),
        ("own_policies:Few", "it cannot be called as rank(candidates, context): too many"),
        ("own_policies:Later", "rank is a coroutine, and nothing awaits it"),
        ("broken_policy:Policy", "SyntaxError: "),
        ("leaving_policy:Policy", "SystemExit: 0"),
    ],
)
def test_what_is_no_policy_is_refused_in_one_sentence(folder: Path, name: str, reason: str) -> None:
    with pytest.raises(PolicyUnusable) as caught:
        load_policies(of_name(name), folder)
    assert str(caught.value).startswith(f"the policy {name!r} cannot be used: {reason}")
    assert "\n" not in str(caught.value)
    assert caught.value.path == "policy"


def test_a_catalogue_without_a_policy_loads_none() -> None:
    assert load_policies(load_catalogue(TEXT), Path("/nowhere")) == {}
    assert "/nowhere" not in sys.path


def test_the_weights_of_a_profile_change_and_its_policy_stays() -> None:
    text = TEXT + (
        "profiles:\n  balanced: {alpha: 1, latency: 1, cost: 1, policy: 'mine:Policy'}\n"
    )
    after = load_catalogue(with_profile(text, "balanced", Profile(alpha=2, latency=1, cost=0)))
    assert after.profiles["balanced"] == Profile(alpha=2, latency=1, cost=0, policy=NAME)


def test_the_example_takes_the_least_busy_of_the_good_enough() -> None:
    policy = LeastBusy()
    assert choose(policy, registry=warm(a=3, b=1)).service == "b"
    assert choose(policy, registry=warm(a=1, b=3)).service == "a"
    assert choose(policy, registry=warm(a=4, b=4, c=0)).service in {"a", "b"}
    ranked = choose(policy, registry=warm(a=3, b=1)).candidates
    assert [one.service for one in ranked] == ["b", "a", "c"]


def test_the_example_wakes_nobody_while_another_has_room() -> None:
    only_b = warm(b=3).remove("a", "0")
    assert choose(LeastBusy(), registry=only_b).service == "b"


def test_the_example_is_one_file_and_one_line_of_the_catalogue(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    folder = Path(__file__).parents[3] / "examples"
    catalogue = load_catalogue(TEXT + "policy: least_busy:LeastBusy\n")
    assert list(load_policies(catalogue, folder)) == ["least_busy:LeastBusy"]


def test_the_policy_of_the_documentation_ranks_as_it_stands_there() -> None:
    page = (Path(__file__).parents[3] / "docs" / "concepts" / "routing.md").read_text("utf-8")
    written: dict[str, Any] = {}
    exec(page.partition("```python\n")[2].partition("```")[0], written)
    assert choose(written["LeastBusy"](), registry=warm(a=3, b=1, c=2)).service == "b"


def test_what_a_policy_gets_is_frozen() -> None:
    candidate = choose(Equation2()).candidates[0]
    with pytest.raises(FrozenInstanceError):
        candidate.score = 1.0  # type: ignore[misc]
