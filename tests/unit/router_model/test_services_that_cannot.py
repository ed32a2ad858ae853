"""A service whose server cannot do what a request wants is not chosen: another one is, or the caller is told."""

from datetime import UTC, datetime
from typing import Any

import pytest

from events.names import Operation, ReplicaState
from events.payloads import ServerInfo, StatusData
from router_model.catalogue.model import Backend, Catalogue, Model, Service
from router_model.classifier.features import extract_features
from router_model.classifier.keyword_rules import KeywordClassifier
from router_model.routing.context import RouteRequest, RoutingContext
from router_model.routing.no_route import (
    CapabilityMissing,
    ContextTooLong,
    NoRoute,
    UnsupportedField,
)
from router_model.routing.select import decide
from router_model.service_registry import Registry

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CHAT = {"messages": [{"role": "user", "content": "hi"}]}
TOOLS = [{"type": "function", "function": {"name": "f"}}]


def catalogue(**kinds: Any) -> Catalogue:
    """One model for each name, on a backend of that kind; the first is the cheapest by far."""
    return Catalogue(
        models=tuple(Model(id=name, context_length=4096) for name in kinds),
        services=tuple(
            Service(model=name, slug=name, backend=Backend(kind=kind), price_per_hour_usd=n * 50)
            for n, (name, kind) in enumerate(kinds.items())
        ),
    )


def told(state: ReplicaState = ReplicaState.READY, **infos: ServerInfo) -> Registry:
    registry = Registry()
    for slug, info in infos.items():
        status = StatusData(service=slug, replica="r", state=state, at=NOW, server=info)
        registry = registry.apply(status)
    return registry


def chosen(
    of: Catalogue, registry: Registry, model: str = "auto", body: dict[str, Any] | None = None
) -> str:
    features = extract_features(Operation.CHAT, body or CHAT)
    ask = RouteRequest(model=model, features=features)
    return decide(
        ask,
        RoutingContext(catalogue=of, registry=registry, now=NOW, classifier=KeywordClassifier()),
    ).service


def test_auto_looks_for_a_server_that_takes_the_field() -> None:
    of = catalogue(small="llamacpp", large="vllm")
    assert chosen(of, Registry()) == "small"
    assert chosen(of, Registry(), body={**CHAT, "min_tokens": 2}) == "large"


def test_a_named_model_is_refused_by_the_name_of_the_field() -> None:
    with pytest.raises(UnsupportedField, match="min_tokens") as caught:
        chosen(catalogue(small="llamacpp"), Registry(), "small", {**CHAT, "min_tokens": 2})
    assert caught.value.param == "min_tokens"


def test_auto_looks_for_a_server_that_has_tools() -> None:
    of = catalogue(small="llamacpp", large="vllm")
    registry = told(small=ServerInfo(kind="llamacpp", tools=False))
    body = {**CHAT, "tools": TOOLS, "tool_choice": "required"}
    assert chosen(of, registry, body=body) == "large"
    with pytest.raises(CapabilityMissing):
        chosen(of, registry, "small", body)


@pytest.mark.parametrize("state", [ReplicaState.STOPPED, ReplicaState.FAILED])
def test_what_a_server_said_is_known_when_it_is_gone(state: ReplicaState) -> None:
    registry = told(small=ServerInfo(kind="llamacpp", tools=False))
    gone = StatusData(service="small", replica="r", state=state, at=NOW)
    registry = registry.apply(gone).remove("small", "r")
    with pytest.raises(CapabilityMissing):
        chosen(catalogue(small="llamacpp"), registry, "small", {**CHAT, "tools": TOOLS})


def test_the_context_is_what_the_server_says_however_long_the_catalogue_thinks_it_is() -> None:
    of = catalogue(remote="openai")
    body = {"messages": [{"role": "user", "content": "a " * 5000}]}
    with pytest.raises(ContextTooLong):
        chosen(of, Registry(), "remote", body)
    longer = told(remote=ServerInfo(kind="vllm", context_length=131_072))
    assert chosen(of, longer, "remote", body) == "remote"
    shorter = told(remote=ServerInfo(kind="vllm", context_length=1024))
    with pytest.raises(ContextTooLong, match="1024"):
        chosen(of, shorter, "remote", {"messages": [{"role": "user", "content": "a " * 2000}]})


def test_the_reason_of_one_that_is_only_ill_is_its_illness() -> None:
    of = Catalogue(
        models=(Model(id="m"),),
        services=(
            Service(model="m", slug="m", backend=Backend(kind="llamacpp")),
            Service(model="m", slug="m--vllm", backend=Backend(kind="vllm")),
        ),
    )
    ill = StatusData(
        service="m--vllm", replica="r", state=ReplicaState.FAILED, at=NOW, failed_starts=3
    )
    with pytest.raises(NoRoute) as caught:
        chosen(of, Registry().apply(ill), "m", {**CHAT, "min_tokens": 2})
    assert caught.value.code == "no_healthy_service"
