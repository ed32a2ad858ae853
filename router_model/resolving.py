"""What `model` in a request means: a model id, an alias, a task, or `auto`; and which models that allows."""

from dataclasses import dataclass
from typing import Final, Literal

from events.ids import is_valid_id
from events.types import Operation
from router_model.catalogue import Catalogue, Model, Task
from router_model.features import PromptFeatures
from router_model.refusals import CapabilityMissing, ContextTooLong, ModelNotAllowed, ModelNotFound

AUTO: Final = "auto"
AskedBy = Literal["explicit", "alias", "task", "auto"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """Models that may answer, in catalogue order, and how they were named. `task` is set for a task only."""

    asked_by: AskedBy
    models: tuple[Model, ...]
    task: Task | None = None


def resolve(catalogue: Catalogue, asked: str, operation: Operation) -> Resolution:
    """The models that `asked` stands for and that can do `operation`.

    An exact id wins over an alias, an alias over a task (the catalogue refuses such clashes anyway).

    Raises:
        ModelNotFound: nothing has that name, or nothing enabled.
        CapabilityMissing: what is named cannot do the operation.
    """
    asked_by, named, task = _named(catalogue, asked)
    served = tuple(model for model in named if catalogue.services_of(model.id))
    if not served:
        raise ModelNotFound(_not_found(asked))
    able = tuple(model for model in served if operation.value in model.capabilities)
    if not able:
        shown = asked if is_valid_id(asked) else "this model"
        raise CapabilityMissing(f"{shown} does not offer {operation.value}")
    return Resolution(asked_by=asked_by, models=able, task=task)


def allowed_to(models: tuple[Model, ...], catalogue: Catalogue, tenant: str) -> tuple[Model, ...]:
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


def fitting(resolution: Resolution, features: PromptFeatures) -> tuple[Model, ...]:
    """The models whose context holds the prompt.

    A model that was named is left out only when the prompt certainly does not fit (the model server has the last word);
    otherwise the estimate decides, as long as it leaves a model.

    Raises:
        ContextTooLong: the prompt certainly fits none.
    """
    certain = tuple(
        model for model in resolution.models if features.least_tokens <= model.context_length
    )
    if not certain:
        longest = max(model.context_length for model in resolution.models)
        raise ContextTooLong(
            f"the prompt has at least {features.least_tokens} tokens; the limit is {longest}"
        )
    if resolution.asked_by in {"explicit", "alias"}:
        return certain
    needed = features.tokens + features.answer_tokens
    likely = tuple(model for model in certain if needed <= model.context_length)
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
    if asked == AUTO:
        return "auto", catalogue.models, None
    raise ModelNotFound(_not_found(asked))


def _not_found(asked: str) -> str:
    if is_valid_id(asked):
        return f"the model {asked!r} does not exist"
    return "the model does not exist"
