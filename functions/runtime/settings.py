"""Every setting of every process, read once from the environment.

`PICKSPIN_<GROUP>_<FIELD>` sets a field. A few have short names (`SHORT_NAMES`).
All problems are reported together. An unknown `PICKSPIN_` variable is an error.
"""

import os
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec

from events.limits import MAX_BODY_BYTES
from functions.runtime.settings_parser import Group, build_variable, is_group, read_groups

__all__ = ["Group", "Settings", "is_group", "load_settings", "mask_settings"]

Count = Annotated[int, msgspec.Meta(ge=1)]
Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
BodyBytes = Annotated[int, msgspec.Meta(ge=1, le=MAX_BODY_BYTES)]
Above0 = Annotated[float, msgspec.Meta(gt=0)]


class BrokerSettings(Group, frozen=True, kw_only=True):
    """Which cluster, and how records travel."""

    bootstrap: str = "127.0.0.1:9092"
    """Comma-separated host:port list."""
    kind: Literal["kafka", "embedded"] = "kafka"
    """`kafka`, or `embedded`: the in-memory broker of `pickspin up`."""
    prefix: str = ""
    """Prefix of every topic and group; empty or ending in a dot."""
    partitions: Count = 4
    """Partitions of every keyed topic that the local stack creates. On a cluster the chart does."""
    reply_partitions: Count = 4
    """Partitions of `infer.replies`, the maximum of ingress replicas."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: str | None = None
    sasl_username: str | None = None
    sasl_password: str | None = None
    ssl_cafile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    delivery_timeout_s: float = 8.0
    """Bound of an append. Then its outcome is unknown. Below the ingress's own wait."""
    session_timeout_s: float = 10.0
    """The partitions of a killed member move after this time. A broker's minimum is 6 s."""
    heartbeat_s: float = 0.3
    """Heartbeat interval of a group member. A joining member waits for two heartbeats."""
    max_poll_interval_s: float = 60.0
    """A member that does not poll for this long loses its partitions."""
    reach_s: Above0 = 6.0
    """`pickspin up --bootstrap` gives up if the cluster has not answered by then."""
    stalled_s: float = 180.0
    """Not ready if the process's group has lag and commits nothing for this long."""
    poll_idle_ms: int = 50
    """Embedded broker: longest pause between fetches if callers wait (ADR 0003)."""
    poll_lazy_ms: int = 150
    """Embedded broker: the same if no caller waits (recorder, callbacks, registry)."""
    max_record_bytes: int = 900 * 1024
    """Limit of the producer, below the topic's limit of 1 MiB."""
    inline_bytes: int = 256 * 1024
    """Larger bodies travel by `dataref`."""
    embedded_answer_bytes: int = 32 * 1024
    """Embedded broker: larger answers and batch lines travel by `dataref`."""


class IngressSettings(Group, frozen=True, kw_only=True):
    """The HTTP API."""

    host: str = "127.0.0.1"
    port: Port = 8080
    partition: int = 0
    """This replica's partition of `infer.replies` (the ordinal of a StatefulSet)."""
    reply_wait_s: float = 115.0
    """Deadline of a call in one piece. Below the clients' usual 120 s, so that our 504 wins."""
    deadline_grace_s: float = 1.0
    """After its deadline a call waits this long for its recorded end."""
    background_wait_s: float = 3600.0
    """Deadline of background, callback and batch work."""
    stream_wait_s: float = 600.0
    """Deadline of a stream. Comment lines keep its connection alive."""
    router_url: str = ""
    """URL of the router. While its `/readyz` fails, this ingress is not ready. Empty: no check."""
    drain_s: float = 20.0
    """After SIGTERM open calls may finish for this long. Then they get 503."""
    max_body_bytes: BodyBytes = 16 * 1024 * 1024
    """A photo, or the text of a million tokens. All limits: docs/reference/limits.md."""
    large_body_bytes: int = 64 * 1024
    """Bodies of at least this size are read one at a time for each tenant."""
    large_body_share: Share = 0.2
    """Maximum share of the event loop's time for reading large bodies."""
    large_body_bytes_s: float = 4 * 1024 * 1024
    """Rate of large bodies of each tenant, if there are several tenants."""
    large_body_waiting: int = 16
    """Large bodies of a tenant that may wait, each for `body_read_s`. Then 429 `tenant_rate`."""
    big_body_bytes: int = 1024 * 1024
    """Larger bodies are parsed beside the event loop."""
    big_bodies_bytes: Count = 64 * 1024 * 1024
    """Bytes of such bodies in memory at once. Others wait for `body_read_s`, then get 503."""
    max_file_bytes: int = 100 * 1024 * 1024
    max_uploads: int = 16
    """Parallel uploads of files. Further ones wait."""
    upload_bytes_s: float = 16 * 1024
    """Minimum average rate of an upload, after its first `body_read_s`."""
    max_waiters: int = 500
    """Open calls in one piece and streams. The next gets 503 `overloaded`."""
    tenant_share: Share = 0.5
    """Maximum share of waiters, open calls and uploads of one of several tenants. 1: all."""
    tenant_streams: int = 200
    """Open streams of one tenant. The next gets 429 `tenant_rate`."""
    tenant_queue: int = 1000
    """Unfinished requests of one tenant, and open batches. The next gets 429 `tenant_queue`."""
    embedded_partition_bytes: int = 3 * 1024 * 1024
    """Embedded broker: unfinished or unrecorded bytes a partition. Above about 5 MB it forgets."""
    heartbeat_s: float = 1.0
    """First interval of a waiting stream's comment lines. It grows ..."""
    heartbeat_most_s: float = 15.0
    """... up to this. Proxies drop connections that are silent for longer."""
    stream_idle_s: float = 20.0
    """A client that takes nothing for this long is disconnected, and its generation cancelled."""
    body_read_s: float = 15.0
    """Bound of reading a body, beside the time that it takes at `body_bytes_s`."""
    body_bytes_s: Above0 = 256 * 1024
    """Minimum rate of a body."""
    api_keys: str = ""
    """`tenant=key` pairs, comma-separated. Empty: no authentication, loopback only."""
    allowed_hosts: str = ""
    """Without keys: names that `Host` may have, beside `host`, loopback and dotless names."""
    allowed_origins: str = ""
    """Origins whose pages may call and read answers (CORS), comma-separated. With keys also `*`.
    Without keys, pages of allowed hosts may call, but not read."""
    metrics: Literal["auto", "open", "key"] = "auto"
    """Whether `/metrics` needs a key. `auto`: if keys are set and `host` is not loopback."""
    callback_hosts: str = ""
    """Allowed callback hosts, comma-separated (`*.example.org`). Empty: any public https host."""
    callback_allow_http: bool = False
    """Allows http URLs of callbacks. For tests and the demo, never in production."""
    callback_allow_private: bool = False
    """Allows callbacks to loopback and private addresses. Likewise."""
    reply_topics: str = ""
    """Further topics that an event may name in `replytopic` (comma-separated)."""

    @property
    def further_reply_topics(self) -> frozenset[str]:
        """The names that `reply_topics` lists."""
        return frozenset(name for part in self.reply_topics.split(",") if (name := part.strip()))


class RouterSettings(Group, frozen=True, kw_only=True):
    """The router function and its sources."""

    binding: Literal["http", "log"] = "http"
    """`http`: a Flask function, fed by KafkaSource or our source process. `log`: a consumer."""
    host: str = "127.0.0.1"
    port: Port = 0
    threads: Count = 8
    source_in_flight: Count = 32
    request_timeout_s: float = 10.0
    give_up_tries: int = 10
    """A record that failed so often while others succeeded is given up: reply, dead letter ..."""
    give_up_s: float = 120.0
    """... but not before this long after its first failure."""
    max_hops: int = 4
    classifier: Literal["transformer", "hybrid", "linear", "keyword"] = "transformer"
    """Which stage decides: docs/concepts/routing.md."""
    weights: str = ""
    """The classifier's weights. Empty: the shipped ones. Unusable: the keyword rule."""
    encoder_threads: int = 2
    """Threads of the encoder for one prompt. 0: every core."""
    policy_dir: str = ""
    """Where the module of a catalogue's `policy` lies. Empty: beside the catalogue file."""
    history: int | None = None
    """Recent T and C that count in scores (ADR 0012). None: 512 if `norm` is distributional."""


class WorkerSettings(Group, frozen=True, kw_only=True):
    """The consumer of one service, and its model server."""

    service: str = ""
    replica: str = "0"
    revision: str = ""
    """This pod's Knative revision. It consumes unless another revision is announced."""
    pinned: str = ""
    """JSON of service, model and cascades as this pod was rolled out. Empty: the catalogue's."""
    host: str = "127.0.0.1"
    """Address of /healthz, /readyz and /metrics. A pod binds 0.0.0.0."""
    port: Port = 0
    """Port of the same. 0: the system chooses."""
    max_attempts: Count = 3
    """Model calls of one request at one service, crashes included."""
    max_calls: Count = 5
    """Model calls of one request at all services. Each planned service gets at least one."""
    read_ahead: int = 512
    """Records that are fetched ahead, so that tenants take turns."""
    read_ahead_bytes: int = 16 * 1024 * 1024
    """Bytes of their bodies. More are not fetched."""
    chunk_ms: int = 30
    """Streamed parts are coalesced for this long."""
    drain_s: float = 20.0
    max_reply_bytes: int = 512 * 1024
    hold_bytes: int = 256 * 1024
    """Maximum of a cascade's stream that is held while it is unsure. Then the next step answers."""
    backend_idle_s: float = 60.0
    """Longest silence of a stream after its first token. Then the attempt has failed."""
    unreachable_s: float = 1.0
    """A server reached by URL that refuses connections for this long failed. 0: no bound."""
    failed_starts: int = 3
    """After so many failed starts in a row, waiting requests end or go to a stand-by service."""
    failed_hold_s: float = 30.0
    """Then nothing is sent to it for this long, doubled with each failure."""
    busy_s: float = 10.0
    """After 429, 503 or no connection for this long a stand-by service is called instead."""
    breaker_window_s: float = 60.0
    """The circuit breaker opens if, of the requests that ended within this time ..."""
    breaker_calls: int = 5
    """... there are at least so many ..."""
    breaker_share: Share = 0.5
    """... and more than this share failed (the mean of the tenants' shares). 1: never."""
    breaker_open_s: float = 10.0
    """It stays open for this long, doubled each time its probe fails, at most five minutes."""
    sleep_level: Literal[0, 1, 2] = 0
    """vLLM: weights of an idle model go to host memory (1) or are dropped (2). 0: never."""
    sleep_after_s: float = 60.0
    """Idle time before it sleeps. The next call wakes it."""
    stuck_s: float = 90.0
    """Not live if the consumer thread has not turned for this long, or a job is held by no task."""
    server_python: str = ""
    """Interpreter that has vLLM, if the worker starts it. Empty: the worker's own."""


class SpinSettings(Group, frozen=True, kw_only=True):
    """Autoscaling."""

    idle_s: float | None = None
    """Overrides every service's idle time. None: the catalogue's."""
    poll_s: Above0 = 0.2
    """Interval of reading the lag. It bounds activation latency."""
    window_s: Above0 = 300.0
    """Window of Algorithm 1."""
    drain_goal_s: Above0 = 10.0
    """Algorithm 1: a backlog should be drained within this time."""


class ScalerSettings(Group, frozen=True, kw_only=True):
    """KEDA's external-push scaler. `SpinSettings` has its decisions."""

    host: str = "127.0.0.1"
    """Address of both ports. A pod binds 0.0.0.0."""
    port: Port = 6000
    """gRPC. 0: the system chooses."""
    probe_port: Port = 9100
    """HTTP: /healthz, /readyz and /metrics. 0: the system chooses."""
    poll_s: float = 0.05
    """Interval of reading topic ends while anyone listens. It bounds activation latency."""
    quiet_poll_s: float = 1.0
    """The same while nobody listens."""
    listener_s: float = 60.0
    """A call without a stream counts as listening for this long."""
    max_share: Share = 0.25
    """Maximum share of one core. If reading and deciding cost more, polls become rarer."""
    commit_s: float = 0.5
    """Interval of reading the commits of services with lag."""
    refresh_s: float = 10.0
    """Interval of reading everything else: commits without lag, partitions, leaders."""
    catalogue_s: float = 5.0
    """Interval of checking the catalogue's file."""
    blind_s: float = 5.0
    """Not ready if no complete reading succeeded for this long."""
    push_again_s: float = 2.0
    """An activation is repeated after this long while no replica reports."""
    max_streams: int = 1000
    """Open streams. KEDA holds one for each trigger."""
    drain_s: float = 3.0
    """After SIGTERM calls may finish for this long."""


class ControllerSettings(Group, frozen=True, kw_only=True):
    """The controller on Kubernetes."""

    namespace: str = "default"
    """The namespace of its objects. It reads no other."""
    release: str = "pickspin"
    """The Helm release: label app.kubernetes.io/instance, and prefix of its objects' names."""
    identity: str = ""
    """Its name in the lease. Empty: the host's name, which is the pod's."""
    kubeconfig: str = ""
    """A file. Empty: the pod's service account, else the usual kubeconfig."""
    host: str = "127.0.0.1"
    """Address of /healthz, /readyz and /metrics. A pod binds 0.0.0.0."""
    port: Port = 9100
    """Port of the same. 0: the system chooses."""
    lease_s: float = 15.0
    """Another replica takes over if the lease was not renewed for this long."""
    renew_s: float = 10.0
    """A leader that could not renew for this long stops acting. Shorter than `lease_s`."""
    retry_s: float = 2.0
    """Interval of renewing or checking the lease."""
    tick_s: float = 1.0
    """Interval of maintenance: pods, prewarming, active revisions."""
    activator_metrics: str = (
        "http://activator-service.knative-serving.svc.cluster.local:9090/metrics"
    )
    """The activator's metrics, which wake a revision by HTTP if its template asks for that."""
    offsets_every_s: float = 86400.0
    """Interval of committing missing offsets. Below the broker's retention of offsets."""
    recover_tries: int = 5
    """Replacements of a broken service's pod, before it is left to Kubernetes."""
    recover_backoff_s: float = 10.0
    """Pause between two replacements, doubled each time."""
    recover_after_s: float = 60.0
    """A service without a ready replica is broken this long after its `start_timeout_s`."""
    history_weeks: int = 4
    """Weeks of requests that `warm_by_habit` looks at."""
    habit_share: Share = 0.75
    """An hour of the week is prewarmed if it had requests in this share of those weeks ..."""
    habit_requests: float = 3.0
    """... and on average at least so many."""


class StoreSettings(Group, frozen=True, kw_only=True):
    """The store of requests, answers, files and batches."""

    url: str = ""
    """SQLAlchemy URL; empty: SQLite `store.sqlite3` in the data directory."""
    retention_days: float = 7.0
    """Requests and answers are kept for this long."""
    keep_prompts: bool = True
    """Prompts are kept as long as their answers. False: until their requests end."""
    route_bound_s: float = 30.0
    """A request that is accepted and not routed for this long is published again."""
    reap_s: Above0 = 0.25
    """Interval of the reaper."""
    boot_id: str = ""
    """Set by the local stack. A new value means that an in-memory broker was lost."""


class RecorderSettings(Group, frozen=True, kw_only=True):
    """Batches, which run in the recorder."""

    tenant_batches: int = 4
    """Running batches of one tenant. Those whose lines only wait for their model do not count."""
    tenant_lines: int = 400
    """Unfinished batch lines of one tenant on Kafka. A batch with fewer than ten may exceed it."""


class CallbackSettings(Group, frozen=True, kw_only=True):
    """Delivery of callbacks."""

    schedule_s: str = "0,5,300,1800,7200,18000,36000,50400,72000,86400"
    """Delays between attempts (Standard Webhooks' example), jittered by 10 %."""
    attempt_timeout_s: float = 10.0
    max_response_bytes: int = 64 * 1024
    concurrency: Count = 32
    """Parallel attempts."""
    tenant_concurrency: Count = 8
    """Parallel attempts of one tenant."""
    target_concurrency: Count = 4
    """Parallel attempts to one target."""
    host_concurrency: Count = 8
    """Parallel attempts to one host. At most three quarters of them are one tenant's."""


class ProbeSettings(Group, frozen=True, kw_only=True):
    """/healthz, /readyz and /metrics of processes without an HTTP API (recorder, callbacks, source)."""

    host: str = "127.0.0.1"
    """A pod binds 0.0.0.0."""
    port: Port | None = None
    """0: the system chooses. None: no probes."""


class Settings(Group, frozen=True, kw_only=True):
    """All groups. A process takes the groups that it needs."""

    broker: BrokerSettings = BrokerSettings()
    ingress: IngressSettings = IngressSettings()
    router: RouterSettings = RouterSettings()
    worker: WorkerSettings = WorkerSettings()
    spin: SpinSettings = SpinSettings()
    scaler: ScalerSettings = ScalerSettings()
    controller: ControllerSettings = ControllerSettings()
    probes: ProbeSettings = ProbeSettings()
    store: StoreSettings = StoreSettings()
    recorder: RecorderSettings = RecorderSettings()
    callbacks: CallbackSettings = CallbackSettings()
    catalogue: str = ""
    """Path of the catalogue. Empty: the built-in one."""
    data_dir: str = ""
    """Directory of store, blobs, logs and converted weights. Empty: `~/.local/share/pickspin`."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"


SHORT_NAMES: Final[Mapping[str, tuple[str, str]]] = {
    "PICKSPIN_PORT": ("ingress", "port"),
    "PICKSPIN_HOST": ("ingress", "host"),
    "PICKSPIN_API_KEYS": ("ingress", "api_keys"),
    "PICKSPIN_IDLE_S": ("spin", "idle_s"),
    "PICKSPIN_BOOTSTRAP": ("broker", "bootstrap"),
}
SECRETS: Final = frozenset({"sasl_password", "api_keys"})


def load_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Reads settings from `environ` (None: the process environment).

    Raises:
        StartupFailed: naming every unknown variable and every bad value at once.
    """
    variables = os.environ if environ is None else environ
    return read_groups(Settings, variables, short_names=SHORT_NAMES)


def is_given(*place: str, environ: Mapping[str, str] | None = None) -> bool:
    """Whether the environment sets that field of a group, under either of its names."""
    variables = os.environ if environ is None else environ
    short = [name for name, where in SHORT_NAMES.items() if where == place]
    return any(name in variables for name in (build_variable(*place), *short))


def mask_settings(settings: Settings) -> dict[str, Any]:
    """The effective settings for printing, with `***` for secrets and passwords of URLs."""
    tree: dict[str, Any] = msgspec.to_builtins(settings)
    tree["store"]["url"] = _without_password(settings.store.url)
    for value in tree.values():
        if isinstance(value, dict):
            for secret in SECRETS & value.keys():
                value[secret] = "***" if value[secret] else value[secret]
    return tree


def _without_password(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    user, at, place = rest.rpartition("@")
    if not at or ":" not in user:
        return url
    return f"{scheme}{separator}{user.partition(':')[0]}:***@{place}"
