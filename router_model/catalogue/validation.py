"""What types cannot say about a catalogue: references, ranges, orders, collisions. Each check yields problems.

Pure; `loader` runs them all and reports everything together.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final
from urllib.parse import urlsplit

from router_model.catalogue.backend_flags import find_argument_problem
from router_model.catalogue.cascade_validation import check_cascades
from router_model.catalogue.cron_window import CronRejected, check_cron, zone
from router_model.catalogue.model import RESERVED_SLUGS, TIERS, Catalogue, Model, Service, Weights
from router_model.catalogue.strict_yaml import Problem
from router_model.classifier.weights_sources import check_source

CLASSES: Final = ("low", "medium", "high")
MAX_ID_CHARS: Final = 128
MAX_SLUG_CHARS: Final = 63
RESERVED_NAMES: Final = frozenset({"auto"})
_SLUG: Final = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_POLICY: Final = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_KEY_ENV: Final = re.compile(r"(?!PICKSPIN_)[A-Z_][A-Z0-9_]{0,127}")
_SECRET_ARGUMENT: Final = re.compile(r"(?i)(.*[_-])?(api_?key|password|secret|token)")

Check = Callable[[Catalogue], Iterator[Problem]]


def check_catalogue(catalogue: Catalogue, *, has_all_entries: bool = True) -> list[Problem]:
    """Every problem of a catalogue whose slugs are filled in.

    `has_all_entries` False: some entries could not be read, so references to what is absent are not judged.
    """
    found = [problem for one in _CHECKS for problem in one(catalogue)]
    if has_all_entries:
        found += [problem for one in _REFERENCE_CHECKS for problem in one(catalogue)]
    return found


def make_slug(text: str) -> str:
    """The RFC 1123 label of a model id: lower case, everything but letters and digits becomes one dash.

    May be empty or too long; the checks refuse such ids.
    """
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _ids(catalogue: Catalogue) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for index, model in enumerate(catalogue.models):
        path = f"models[{index}].id"
        yield from _name(path, model.id)
        twin = seen.setdefault(model.id.lower(), model.id)
        if index and model.id in {other.id for other in catalogue.models[:index]}:
            yield Problem(path, f"the id {model.id!r} is there twice")
        elif twin != model.id:
            yield Problem(path, f"the id {model.id!r} differs from {twin!r} by case only")


def _name(path: str, name: str) -> Iterator[Problem]:
    if not name or len(name) > MAX_ID_CHARS or not all("!" <= char <= "~" for char in name):
        yield Problem(path, f"must be 1 to {MAX_ID_CHARS} visible ASCII characters without spaces")
    elif ".." in name:
        yield Problem(path, "must not contain '..'")
    elif name.lower() in RESERVED_NAMES:
        yield Problem(path, f"{name!r} is a reserved word")


def _models(catalogue: Catalogue) -> Iterator[Problem]:
    for index, model in enumerate(catalogue.models):
        path = f"models[{index}]"
        yield from _at_least(path, model, {"context_length": 1, "max_tokens": 1})
        if model.context_length < model.max_tokens:
            yield Problem(
                f"{path}.max_tokens", f"must not be above context_length ({model.context_length})"
            )
        if not model.capabilities:
            yield Problem(f"{path}.capabilities", "must name at least one capability")
        for name, chance in model.quality.items():
            if name not in CLASSES:
                yield Problem(f"{path}.quality.{name}", f"no such class: {', '.join(CLASSES)}")
            elif not 0 <= chance <= 1:
                yield Problem(f"{path}.quality.{name}", "must be between 0 and 1")
        yield from _weights(f"{path}.weights", model.weights)


def _weights(path: str, weights: Weights) -> Iterator[Problem]:
    given = (weights.package, weights.path, weights.url, weights.source)
    if sum(source is not None for source in given) > 1:
        yield Problem(path, "exactly one of package, path, url, source may be given")
    yield from check_source(path, weights)
    if weights.sha256 is not None and not _SHA256.fullmatch(weights.sha256):
        yield Problem(f"{path}.sha256", "must be 64 lower-case hexadecimal digits")
    if weights.package is not None:
        parts = weights.package.split("/")
        if len(parts) < 2 or not parts[0].isidentifier() or not all(parts) or ".." in parts:
            yield Problem(f"{path}.package", "must be <import name>/<file> without '..'")
    if weights.path is not None and not weights.path.strip():
        yield Problem(f"{path}.path", "must not be empty")
    if weights.url is not None:
        yield from _url(f"{path}.url", weights.url)


def _url(path: str, url: str) -> Iterator[Problem]:
    try:
        parts = urlsplit(url)
        has_host = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        yield Problem(path, "is not a URL")
        return
    if parts.scheme not in {"http", "https"} or not has_host:
        yield Problem(path, "must be an http:// or https:// base URL")
    if parts.username is not None or parts.password is not None:
        yield Problem(path, "must not contain a user or password: the catalogue holds no secrets")


def _services(catalogue: Catalogue) -> Iterator[Problem]:
    for index, service in enumerate(catalogue.services):
        path = f"services[{index}]"
        yield from _at_least(
            path,
            service,
            {"concurrency": 1, "max_replicas": 1, "partitions": 1, "min_warm": 0, "gpu_share": 0,
             "price_per_hour_usd": 0, "cold_start_s": 0, "ttft_s": 0, "cooldown_s": 0, "idle_s": 0},
        )  # fmt: skip
        for name in ("tokens_per_s", "prefill_tokens_per_s", "queue_mark_s", "timeout_s",
                     "start_timeout_s"):  # fmt: skip
            if getattr(service, name) <= 0:
                yield Problem(f"{path}.{name}", "must be above 0")
        yield from _replicas(path, service, catalogue.min_warm(service))
        yield from _arguments(path, service)
        yield from _warm_hours(path, service)
        model = catalogue.model(service.model)
        if model is not None:
            yield from _source(path, service, model)
            yield from _key(f"{path}.backend.key_env", service, model)


def _replicas(path: str, service: Service, min_warm: int) -> Iterator[Problem]:
    if service.max_replicas < min_warm:
        yield Problem(
            f"{path}.max_replicas", f"must not be below the replicas kept warm ({min_warm})"
        )
    if service.max_replicas > service.partitions:
        yield Problem(
            f"{path}.max_replicas",
            f"must not be above partitions ({service.partitions}): further replicas would get no work",
        )
    if service.start_timeout_s < service.cold_start_s:
        yield Problem(
            f"{path}.start_timeout_s", f"must not be below cold_start_s ({service.cold_start_s:g})"
        )


def _arguments(path: str, service: Service) -> Iterator[Problem]:
    for name, value in service.backend.args.items():
        if _SECRET_ARGUMENT.fullmatch(name):
            yield Problem(f"{path}.backend.args.{name}", "the catalogue holds no secrets")
        elif problem := find_argument_problem(service.backend.kind, name, value):
            yield Problem(f"{path}.backend.args.{name}", problem)


def _key(path: str, service: Service, model: Model) -> Iterator[Problem]:
    name = service.backend.key_env
    if name is None:
        return
    if model.weights.url is None:
        yield Problem(path, f"is for a server that model {model.id!r} reaches by weights.url")
    if not _KEY_ENV.fullmatch(name):
        yield Problem(
            path,
            "must be the name of an environment variable (A-Z, 0-9 and _, not PICKSPIN_...), not a key",
        )


def _warm_hours(path: str, service: Service) -> Iterator[Problem]:
    for index, hours in enumerate(service.warm_hours):
        for name, read in (("start", check_cron), ("end", check_cron), ("timezone", zone)):
            try:
                read(getattr(hours, name))
            except CronRejected as error:
                yield Problem(f"{path}.warm_hours[{index}].{name}", str(error))


def _source(path: str, service: Service, model: Model) -> Iterator[Problem]:
    kind, weights = service.backend.kind, model.weights
    if kind == "fake":
        if not model.simulated:
            yield Problem(
                f"{path}.backend.kind",
                f"the fake backend needs 'simulated: true' on model {model.id!r}",
            )
    elif kind == "openai":
        if weights.url is None:
            yield Problem(f"{path}.backend.kind", f"needs weights.url on model {model.id!r}")
    elif kind == "llamacpp":
        if weights.package is None and weights.path is None and weights.source is None:
            yield Problem(
                f"{path}.backend.kind",
                f"needs weights.package, weights.path or weights.source on model {model.id!r}",
            )
    elif weights == Weights():
        yield Problem(f"{path}.backend.kind", f"needs weights on model {model.id!r}")


def _slugs(catalogue: Catalogue) -> Iterator[Problem]:
    owners: dict[str, int] = {}
    for index, service in enumerate(catalogue.services):
        path, slug = f"services[{index}].slug", service.slug
        if slug in RESERVED_SLUGS or slug in RESERVED_NAMES:
            yield Problem(path, f"{slug!r} is a reserved word: set another slug")
        elif len(slug) > MAX_SLUG_CHARS or not _SLUG.fullmatch(slug):
            yield Problem(
                path,
                f"{slug!r} is not a name of 1 to {MAX_SLUG_CHARS} of a-z, 0-9 and dashes: set the slug",
            )
        first = owners.setdefault(slug, index)
        if first != index:
            yield Problem(
                path,
                f"{slug!r} is also the slug of services[{first}]; topics would be shared: set one",
            )


def _cells(catalogue: Catalogue) -> Iterator[Problem]:
    first: dict[tuple[str, str], int] = {}
    for index, service in enumerate(catalogue.services):
        kind = service.backend.kind
        earlier = first.setdefault((service.model, kind), index)
        if earlier != index and service.slug == f"{make_slug(service.model)}--{kind}":
            yield Problem(
                f"services[{index}].slug",
                f"services[{earlier}] is the same model on the same backend: set a slug",
            )


def _profiles(catalogue: Catalogue) -> Iterator[Problem]:
    for name, profile in catalogue.profiles.items():
        path = f"profiles.{name}"
        weights = (profile.alpha, profile.latency, profile.cost)
        if min(weights) < 0:
            yield Problem(path, "alpha, latency and cost must not be negative")
        elif sum(weights) <= 0:
            yield Problem(path, "alpha, latency and cost must not all be 0")
    if catalogue.default_profile not in catalogue.profiles:
        yield Problem(
            "default_profile",
            f"{catalogue.default_profile!r} is not a profile: {', '.join(catalogue.profiles)}",
        )
    if not 0 <= catalogue.affinity_margin <= 1:
        yield Problem("affinity_margin", "must be between 0 and 1")
    if not 0 <= catalogue.conversation_margin <= 1:
        yield Problem("conversation_margin", "must be between 0 and 1")
    for tier, count in catalogue.warm_pool.items():
        if tier not in TIERS:
            yield Problem(f"warm_pool.{tier}", f"no such key: {', '.join(TIERS)}")
        elif count < 0:
            yield Problem(f"warm_pool.{tier}", "must be at least 0")


def _policies(catalogue: Catalogue) -> Iterator[Problem]:
    named = {f"profiles.{name}.policy": one.policy for name, one in catalogue.profiles.items()}
    for path, policy in {"policy": catalogue.policy, **named}.items():
        if policy is not None and not _POLICY.fullmatch(policy):
            yield Problem(path, "must be package.module:Name")


def _names(catalogue: Catalogue) -> Iterator[Problem]:
    ids = {model.id for model in catalogue.models}
    for alias in catalogue.aliases:
        yield from _name(f"aliases.{alias}", alias)
        if alias in ids:
            yield Problem(f"aliases.{alias}", "hides a model of the same id")
    for name, task in catalogue.tasks.items():
        path = f"tasks.{name}"
        yield from _name(path, name)
        if name in ids or name in catalogue.aliases:
            yield Problem(path, "hides a model or alias of the same name")
        yield from _at_least(path, task, {"max_tokens": 1})
        if task.timeout_s <= 0:
            yield Problem(f"{path}.timeout_s", "must be above 0")
    for name in catalogue.cascades:
        path = f"cascades.{name}"
        yield from _name(path, name)
        if name in ids or name in catalogue.aliases or name in catalogue.tasks:
            yield Problem(path, "hides a model, alias or task of the same name")
    for name, tenant in catalogue.tenants.items():
        yield from _at_least(f"tenants.{name}", tenant, {"max_queue": 1, "max_streams": 1})


def _service_references(catalogue: Catalogue) -> Iterator[Problem]:
    if not catalogue.models:
        yield Problem("models", "there must be at least one model")
    ids = {model.id for model in catalogue.models}
    for index, service in enumerate(catalogue.services):
        if service.model not in ids:
            yield _unknown(f"services[{index}].model", service.model)
    if catalogue.models and not any(catalogue.services_of(model_id) for model_id in ids):
        yield Problem("services", "there must be at least one enabled service")


def _alias_references(catalogue: Catalogue) -> Iterator[Problem]:
    for alias, target in catalogue.aliases.items():
        if target in catalogue.aliases:
            yield Problem(f"aliases.{alias}", f"{target!r} is itself an alias: name the model")
        else:
            yield from _served(catalogue, f"aliases.{alias}", (target,))
    for name, task in catalogue.tasks.items():
        yield from _served(catalogue, f"tasks.{name}.models", task.models)
    for name, cascade in catalogue.cascades.items():
        yield from _served(catalogue, f"cascades.{name}.steps", cascade.steps)


def _fallback_references(catalogue: Catalogue) -> Iterator[Problem]:
    for model_id, targets in catalogue.fallbacks.items():
        path = f"fallbacks.{model_id}"
        if catalogue.model(model_id) is None:
            yield _unknown(path, model_id)
        if model_id in targets:
            yield Problem(path, "a model cannot be its own fallback")
        yield from _served(catalogue, path, targets)


def _tenant_references(catalogue: Catalogue) -> Iterator[Problem]:
    for name, tenant in catalogue.tenants.items():
        for model_id in tenant.models:
            if catalogue.model(model_id) is None:
                yield _unknown(f"tenants.{name}.models", model_id)


def _served(catalogue: Catalogue, path: str, model_ids: Iterable[str]) -> Iterator[Problem]:
    for model_id in model_ids:
        if catalogue.model(model_id) is None:
            yield _unknown(path, model_id)
        elif not catalogue.services_of(model_id):
            yield Problem(path, f"the model {model_id!r} has no enabled service")


def _repeated_models(catalogue: Catalogue) -> Iterator[Problem]:
    for name, task in catalogue.tasks.items():
        for model_id, count in Counter(task.models).items():
            if count > 1:
                yield Problem(f"tasks.{name}.models", f"{model_id!r} is there twice")


def _unknown(path: str, model_id: str) -> Problem:
    return Problem(path, f"there is no model {model_id!r}")


def _at_least(path: str, entry: object, least: Mapping[str, int]) -> Iterator[Problem]:
    for name, bound in least.items():
        value = getattr(entry, name)
        if value is not None and value < bound:
            yield Problem(f"{path}.{name}", f"must be at least {bound}")


_CHECKS: Final[tuple[Check, ...]] = (
    _ids, _models, _services, _slugs, _cells, _profiles, _policies, _names, _repeated_models,
    check_cascades,
)  # fmt: skip
_REFERENCE_CHECKS: Final[tuple[Check, ...]] = (
    _service_references, _alias_references, _fallback_references, _tenant_references,
)  # fmt: skip
