"""Adding to a catalogue from the command line (the user's own model, the simulated demonstration fleet), and putting
into it what a pod was rolled out with.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from router_model.catalogue.loader import CatalogueRejected, finish_catalogue
from router_model.catalogue.model import Backend, Cascade, Catalogue, Model, Service, Weights
from router_model.catalogue.strict_yaml import Problem

OWN_CONTEXT_LENGTH: Final = 4096
"""Assumed of a model whose context is not stated; the model server has the last word."""

DEMO_MODELS: Final = (
    Model(
        id="sim-small",
        tier="L1",
        capabilities=("chat", "completions"),
        context_length=8192,
        quality={"low": 0.92, "medium": 0.45, "high": 0.05},
        simulated=True,
    ),
    Model(
        id="sim-medium",
        tier="L2",
        capabilities=("chat", "completions", "code"),
        context_length=16384,
        quality={"low": 0.93, "medium": 0.88, "high": 0.2},
        simulated=True,
    ),
    Model(
        id="sim-large",
        tier="L3",
        capabilities=("chat", "completions", "code", "long_context", "tools"),
        context_length=65536,
        quality={"low": 0.95, "medium": 0.92, "high": 0.95},
        simulated=True,
    ),
)
"""Made-up priors: the fleet shows how routing behaves, not how good any model is."""

_DEMO_SPEEDS: Final = {
    # model id: load_s, ttft_s, tokens_per_s, price in USD per hour
    "sim-small": (1.0, 0.03, 100.0, 0.4),
    "sim-medium": (1.0, 0.3, 110.0, 2.0),
    "sim-large": (1.2, 0.7, 150.0, 8.0),
}
"""The larger, the dearer and the later its first token; but small models run on small machines, so that a long answer
takes all of them about the same time. Then quality, cost and the class decide, whichever of them is warm.
"""


def with_model(catalogue: Catalogue, name: str, source: str) -> Catalogue:
    """The catalogue plus one model and its service.

    Args:
        catalogue: a checked one.
        name: the new model's id.
        source: path of a `.gguf` file (llama.cpp serves it), or the `http://` or `https://` base URL of an
            OpenAI-compatible server that already runs.

    Raises:
        CatalogueRejected: the name is taken or illegal, or the source is neither.
    """
    if catalogue.model(name) is not None:
        raise CatalogueRejected([Problem("models", f"there is already a model {name!r}")])
    if source.startswith(("http://", "https://")):
        weights, backend = Weights(url=source.rstrip("/")), Backend(kind="openai")
        service = Service(model=name, backend=backend, cold_start_s=0.5)
    elif source.endswith(".gguf"):
        weights, backend = Weights(path=source), Backend(kind="llamacpp")
        service = Service(model=name, backend=backend, concurrency=2)
    else:
        problem = f"{source!r} is neither a .gguf file nor an http:// or https:// base URL"
        raise CatalogueRejected([Problem(f"model {name}", problem)])
    model = Model(id=name, context_length=OWN_CONTEXT_LENGTH, weights=weights)
    return finish_catalogue(_joined(catalogue, (model,), (service,)))


ONLY_SCALES: Final = frozenset(
    {
        "min_warm",
        "max_replicas",
        "cooldown_s",
        "idle_s",
        "warm_hours",
        "warm_by_habit",
        "partitions",
    }
    | {"price_per_hour_usd", "cold_start_s", "tokens_per_s", "ttft_s", "prefill_tokens_per_s"}
    | {"queue_mark_s"}
)
"""Of a service; no pod starts anew for these, so the newest holds (the charts' `pickspin.readAtStart` omits them)."""


class Pinned(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a worker goes by as long as its revision lives. `service` has no slug, and of what only scales nothing."""

    model: Model
    service: Mapping[str, Any]
    cascades: Mapping[str, Cascade] = {}


def with_pinned(catalogue: Catalogue, slug: str, text: str) -> Catalogue:
    """The catalogue with one service, its model and the cascades as `text` has them; the rest is the catalogue's.

    The catalogue may be newer, and need not know the service any more.

    Args:
        catalogue: a checked one.
        slug: of the service.
        text: JSON of a `Pinned`.

    Raises:
        CatalogueRejected: `text` is none.
    """
    known = catalogue.service(slug)
    try:
        pinned = msgspec.json.decode(text, type=Pinned)
        newest: dict[str, Any] = {} if known is None else msgspec.to_builtins(known)
        scaling = {name: newest[name] for name in ONLY_SCALES & newest.keys()}
        service = msgspec.convert({**pinned.service, **scaling, "slug": slug}, Service)
    except msgspec.MsgspecError as error:
        raise CatalogueRejected([Problem(f"service {slug}", f"as pinned: {error}")]) from error
    return msgspec.structs.replace(
        catalogue,
        models=(*(one for one in catalogue.models if one.id != pinned.model.id), pinned.model),
        services=(*(one for one in catalogue.services if one.slug != slug), service),
        cascades=pinned.cascades,
    )


def with_demo_fleet(catalogue: Catalogue) -> Catalogue:
    """The catalogue plus three simulated models, one a tier, that differ in load time, speed and price.

    Raises:
        CatalogueRejected: a name of the fleet is taken.
    """
    services = tuple(_demo_service(model.id) for model in DEMO_MODELS)
    return finish_catalogue(_joined(catalogue, DEMO_MODELS, services))


def _demo_service(model_id: str) -> Service:
    load_s, ttft_s, tokens_per_s, price = _DEMO_SPEEDS[model_id]
    return Service(
        model=model_id,
        backend=Backend(
            kind="fake", args={"load_s": load_s, "ttft_s": ttft_s, "tokens_per_s": tokens_per_s}
        ),
        concurrency=8,
        gpu="simulated",
        gpu_share=1.0,
        price_per_hour_usd=price,
        cold_start_s=load_s + 1.0,
        ttft_s=ttft_s,
        tokens_per_s=tokens_per_s,
        max_replicas=2,
        idle_s=60.0,
    )


def _joined(
    catalogue: Catalogue, models: tuple[Model, ...], services: tuple[Service, ...]
) -> Catalogue:
    return msgspec.structs.replace(
        catalogue, models=catalogue.models + models, services=catalogue.services + services
    )
