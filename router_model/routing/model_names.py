"""What `model` in a request means: a model id, an alias, a task, or `auto`; and which models that allows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from events.ids import is_valid_id
from events.names import Operation
from events.openai.operations import OPERATIONS
from router_model.catalogue.model import Cascade, Catalogue, Model, Task
from router_model.classifier.features import PromptFeatures
from router_model.routing.no_route import (
    CapabilityMissing,
    ContextTooLong,
    ModelNotAllowed,
    ModelNotFound,
)

AUTO: Final = "auto"
AskedBy = Literal["explicit", "alias", "task", "cascade", "auto"]
Virtual = Literal["alias", "task", "cascade", "auto"]
"""How a name that is no model's own stands for models."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """Models that may answer, in catalogue order (a cascade's: in order of its steps), and how they were named. The
    task's fields are set for one only, `cascade` for a cascade.
    """

    asked_by: AskedBy
    models: tuple[Model, ...]
    task: Task | None = None
    task_name: str | None = None
    cascade: Cascade | None = None


def resolve(catalogue: Catalogue, asked: str, operation: Operation) -> Resolution:
    """The models that `asked` stands for and that can do `operation`.

    An exact id wins over an alias, an alias over a task, a task over a cascade (the catalogue refuses such clashes
    anyway). A cascade offers no embeddings: there is nothing in them to judge.

    Raises:
        ModelNotFound: nothing has that name, or nothing enabled.
        CapabilityMissing: what is named cannot do the operation.
    """
    asked_by, named, task = _named(catalogue, asked)
    served = tuple(model for model in named if catalogue.services_of(model.id))
    if not served:
        raise ModelNotFound(_not_found(asked))
    able = tuple(model for model in served if operation.value in model.capabilities)
    if not able or (asked_by == "cascade" and not OPERATIONS[operation].is_generative):
        shown = asked if is_valid_id(asked) else "this model"
        raise CapabilityMissing(f"{shown} does not offer {operation.value}")
    name = None if task is None else asked
    cascade = catalogue.cascades[asked] if asked_by == "cascade" else None
    return Resolution(asked_by=asked_by, models=able, task=task, task_name=name, cascade=cascade)


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualName:
    """A name that can be asked for and stands for models; those that may answer, as in `Resolution`."""

    name: str
    kind: Virtual
    models: tuple[Model, ...]


def list_virtual_names(catalogue: Catalogue, tenant: str) -> tuple[VirtualName, ...]:
    """Every name beside the models' own that a tenant can ask for: `auto`, then aliases, tasks and cascades."""
    found = []
    for name in (AUTO, *catalogue.aliases, *catalogue.tasks, *catalogue.cascades):
        try:
            kind, models, _ = _named(catalogue, name)
            served = tuple(model for model in models if catalogue.services_of(model.id))
            allowed = filter_allowed(served, catalogue, tenant)
        except (ModelNotFound, ModelNotAllowed):
            continue
        if kind != "explicit" and allowed:
            found.append(VirtualName(name=name, kind=kind, models=allowed))
    return tuple(found)


def filter_allowed(
    models: tuple[Model, ...], catalogue: Catalogue, tenant: str
) -> tuple[Model, ...]:
    """The models that a tenant may use; no list means all.

    Raises:
        ModelNotAllowed: none of them.
    """
    limits = catalogue.tenants.get(tenant)
    if limits is None or not limits.models:
        return models
    allowed = tuple(model for model in models if model.id in limits.models)
    if not allowed:
        raise ModelNotAllowed("this tenant may not use the model")
    return allowed


def filter_fitting(
    models: Sequence[Model],
    features: PromptFeatures,
    lengths: Mapping[str, int] | None = None,
    *,
    is_named: bool,
) -> tuple[Model, ...]:
    """The models whose context holds the prompt; `lengths` are those of contexts, by model id, before the catalogue's.

    A model that was named is left out only when the prompt certainly does not fit (the model server has the last word);
    otherwise the estimate decides, as long as it leaves a model.

    Raises:
        ContextTooLong: the prompt certainly fits none.
    """
    holds = {model.id: model.context_length for model in models} | dict(lengths or {})
    certain = tuple(m for m in models if features.least_tokens <= holds[m.id])
    if not certain:
        longest = max(holds[model.id] for model in models)
        raise ContextTooLong(
            f"the prompt has at least {features.least_tokens} tokens; the limit is {longest}"
        )
    if is_named:
        return certain
    needed = features.tokens + features.answer_tokens
    likely = tuple(model for model in certain if needed <= holds[model.id])
    return likely or certain


def _named(catalogue: Catalogue, asked: str) -> tuple[AskedBy, tuple[Model, ...], Task | None]:
    model = catalogue.model(asked)
    if model is not None:
        return "explicit", (model,), None
    aliased = catalogue.model(catalogue.aliases.get(asked, ""))
    if aliased is not None:
        return "alias", (aliased,), None
    task = catalogue.tasks.get(asked)
    if task is not None:
        allowed = tuple(m for m in catalogue.models if not task.models or m.id in task.models)
        return "task", allowed, task
    cascade = catalogue.cascades.get(asked)
    if cascade is not None:
        steps = (catalogue.model(step) for step in cascade.steps)
        return "cascade", tuple(model for model in steps if model is not None), None
    if asked == AUTO:
        return "auto", catalogue.models, None
    raise ModelNotFound(_not_found(asked))


def _not_found(asked: str) -> str:
    if is_valid_id(asked):
        return f"the model {asked!r} does not exist"
    return "the model does not exist"
