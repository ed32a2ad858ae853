"""Who may answer a request, in order of preference: the models that were named, then those that may stand in.

The first option with a service that can take the request is chosen from; within an option, Algorithm 2 decides.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from events.requests import Fallback
from router_model.catalogue.model import TRAITS, Capability, Catalogue, Model
from router_model.classifier.features import Need, PromptFeatures
from router_model.classifier.task_detection import detect_task, find_trait
from router_model.routing.model_names import AskedBy, Resolution, filter_allowed, filter_fitting
from router_model.routing.no_route import CapabilityMissing
from router_model.service_registry import Registry

Reason = AskedBy | Literal["fallback"]


@dataclass(frozen=True, slots=True)
class Option:
    """Models to choose from, and the reason that a decision among them gets."""

    reason: Reason
    models: tuple[Model, ...]


def list_options(
    catalogue: Catalogue,
    resolution: Resolution,
    features: PromptFeatures,
    fallback: Fallback | None = None,
) -> tuple[Option, ...]:
    """At least one option.

    A model that was named (or its alias) is followed by its chain of the catalogue, one model an option; with
    `fallback` `none` by nothing, with `allow` also by every model that can do the operation. A task without models of
    its own, and with `auto_tasks` `auto`, prefer models made for the task. Of a cascade every step is an option.
    """
    if resolution.asked_by in {"explicit", "alias"}:
        stand_ins = _stand_ins(catalogue, resolution.models[0], features, fallback)
        return (Option(resolution.asked_by, resolution.models), *stand_ins)
    if resolution.asked_by == "cascade":
        return tuple(Option("cascade", (model,)) for model in resolution.models)
    preferred = _preferred(catalogue, resolution, features)
    everyone = Option(resolution.asked_by, resolution.models)
    if not preferred or len(preferred) == len(resolution.models):
        return (everyone,)
    return Option(resolution.asked_by, preferred), everyone


def filter_usable(
    option: Option, catalogue: Catalogue, registry: Registry, features: PromptFeatures, tenant: str
) -> tuple[Model, ...]:
    """The models of an option that the tenant may use, that have what the body asks for, and that hold the prompt.

    How much a model holds is what its servers say, else what the catalogue does.

    Raises:
        ModelNotAllowed, CapabilityMissing, ContextTooLong: none does.
    """
    models = filter_allowed(option.models, catalogue, tenant)
    models = filter_capable(models, features.needs)
    lengths = {model.id: _context_length(model, catalogue, registry) for model in models}
    is_named = option.reason in {"explicit", "alias", "cascade"}
    return filter_fitting(models, features, lengths, is_named=is_named)


def _context_length(model: Model, catalogue: Catalogue, registry: Registry) -> int:
    """The longest of its services."""
    said = [registry.servers.get(one.slug) for one in catalogue.services_of(model.id)]
    lengths = [None if info is None else info.context_length for info in said]
    return max((length or model.context_length for length in lengths), default=model.context_length)


def filter_capable(models: Sequence[Model], needs: Sequence[Need]) -> tuple[Model, ...]:
    """The models that list every capability needed; where none does, those that list no trait at all.

    Such a catalogue says nothing about traits, so the model server has the last word.

    Raises:
        CapabilityMissing: every model lists traits, and not these.
    """
    able = tuple(model for model in models if set(needs) <= set(model.capabilities))
    if able:
        return able
    silent = tuple(model for model in models if TRAITS.isdisjoint(model.capabilities))
    if silent:
        return silent
    missing = [need for need in needs if not any(need in model.capabilities for model in models)]
    raise CapabilityMissing(f"no model for this request offers {' and '.join(missing or needs)}")


def _stand_ins(
    catalogue: Catalogue, named: Model, features: PromptFeatures, fallback: Fallback | None
) -> Iterator[Option]:
    if fallback == "none":
        return
    operation: Capability = features.operation.value
    able = [m for m in catalogue.models if m.id != named.id and operation in m.capabilities]
    for model_id in catalogue.fallbacks.get(named.id, ()):
        yield from (Option("fallback", (model,)) for model in able if model.id == model_id)
    if fallback == "allow" and able:
        yield Option("fallback", tuple(able))


def _preferred(
    catalogue: Catalogue, resolution: Resolution, features: PromptFeatures
) -> tuple[Model, ...]:
    """The models made for the task that was named, or that the prompt looks like; empty: no preference."""
    name, task = resolution.task_name, resolution.task
    if resolution.asked_by == "auto":
        if not catalogue.auto_tasks:
            return ()
        name = detect_task(features)
        task = catalogue.tasks.get(name)
    if name is None or task is None:
        return ()
    if task.models:
        return tuple(model for model in resolution.models if model.id in task.models)
    trait = find_trait(name, features)
    return tuple(model for model in resolution.models if trait in model.capabilities)
