"""Every setting of every process: frozen, grouped, explained, read from the environment in one place.

`PICKSPIN_<GROUP>_<FIELD>` sets a field (`PICKSPIN_BROKER_BOOTSTRAP`); a few everyday ones have short names
(`SHORT_NAMES`). All problems are reported together; an unknown `PICKSPIN_` variable is an error.
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
    """`kafka`, or `embedded` (the in-memory broker of `pickspin up`; decides API version, poll and admission)."""
    prefix: str = ""
    """Prefix of every topic and group; empty or ending in a dot."""
    partitions: Count = 4
    """Partitions of every keyed topic the local stack creates (a cluster's come from the chart)."""
    reply_partitions: Count = 4
    """Partitions of `infer.replies` = the most ingress replicas there may be."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: str | None = None
    sasl_username: str | None = None
    sasl_password: str | None = None
    ssl_cafile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    delivery_timeout_s: float = 8.0
    """An append that is not acknowledged by then fails as unknown; below the ingress's own wait."""
    session_timeout_s: float = 10.0
    """A killed group member's partitions move after this long (a broker's minimum is 6 s)."""
    heartbeat_s: float = 0.3
    """Heartbeat interval of a group member. A joining member waits for two heartbeats of the slowest one."""
    max_poll_interval_s: float = 60.0
    """A member that does not poll for this long loses its partitions; a rebalance waits no longer for it."""
    reach_s: Above0 = 6.0
    """`pickspin up --bootstrap`: a cluster that has not answered by then ends the start."""
    stalled_s: float = 180.0
    """A group with lag whose commits have not moved for this long, while records keep coming, makes no progress: its
    process is not ready."""
    poll_idle_ms: int = 50
    """Embedded broker: readers that callers wait for fetch at least this often without a ring (ADR 0003)."""
    poll_lazy_ms: int = 150
    """Embedded broker: the same for readers that no caller waits for (recorder, callbacks, registry)."""
    max_record_bytes: int = 900 * 1024
    """Producer cap; strictly below the broker's topic limit (1 MiB) so that one record never poisons a producer."""
    inline_bytes: int = 256 * 1024
    """Bodies above this travel by `dataref`."""
    embedded_answer_bytes: int = 32 * 1024
    """Embedded broker: answers and lines of batches above this do; it forgets what a partition holds above 5 MB."""


class IngressSettings(Group, frozen=True, kw_only=True):
    """The HTTP doors."""

    host: str = "127.0.0.1"
    port: Port = 8080
    partition: int = 0
    """This replica's partition of `infer.replies` (StatefulSet ordinal)."""
    reply_wait_s: float = 115.0
    """Deadline of a synchronous call; below the usual client timeout of 120 s so that our 504 wins."""
    deadline_grace_s: float = 1.0
    """After its deadline a call waits this long for its end on the log, so that caller and store agree on it."""
    background_wait_s: float = 3600.0
    """Deadline of background, callback and batch work."""
    stream_wait_s: float = 600.0
    """Deadline of a stream: longer than `reply_wait_s`, because comment lines keep the connection alive."""
    router_url: str = ""
    """Where the router answers `/readyz`: while it does not, this ingress is not ready either. Empty: it is not asked.
    """
    drain_s: float = 20.0
    """After SIGTERM open calls may finish for this long; then they get 503."""
    max_body_bytes: BodyBytes = 16 * 1024 * 1024
    """A photo, or the text of a million tokens. All limits: docs/reference/limits.md."""
    large_body_bytes: int = 64 * 1024
    """Bodies from this size on are read one at a time for each tenant ..."""
    large_body_share: Share = 0.2
    """... taking at most this share of the time of all who call ..."""
    large_body_bytes_s: float = 4 * 1024 * 1024
    """... and, where there are several tenants, this many bytes a second of each."""
    large_body_waiting: int = 16
    """As many large bodies of a tenant may wait for a turn, for `body_read_s` each; others get 429 `tenant_rate`."""
    big_body_bytes: int = 1024 * 1024
    """Bodies above this are parsed beside the event loop, and need room ..."""
    big_bodies_bytes: Count = 64 * 1024 * 1024
    """... until they are written down: so many bytes of them are in memory at once. Further ones wait, at most
    `body_read_s`."""
    max_file_bytes: int = 100 * 1024 * 1024
    max_uploads: int = 16
    """Files that are taken in at once; further ones wait."""
    upload_bytes_s: float = 16 * 1024
    """A file must arrive at least this fast on average, after its first `body_read_s`."""
    max_waiters: int = 500
    """Synchronous calls and streams open at once; the next gets 503 `overloaded`."""
    tenant_share: Share = 0.5
    """Most of the waiters, open calls and uploads that one tenant may hold; less as others hold more. 1: all."""
    tenant_streams: int = 200
    tenant_queue: int = 1000
    """Unfinished accepted requests of one tenant, and open batches; the next gets 429 `tenant_queue`."""
    embedded_partition_bytes: int = 3 * 1024 * 1024
    """Bytes per partition that are unfinished, or that the recorder has not read, on the embedded broker, which forgets
    above about 5 MB."""
    heartbeat_s: float = 1.0
    """Comment lines of a waiting stream come this often at first, then ever more seldom ..."""
    heartbeat_most_s: float = 15.0
    """... down to this: proxies drop what is silent for longer, and some clients count lines without data."""
    stream_idle_s: float = 20.0
    """Whoever takes nothing of an answer for this long, or is gone without a word, is cut; its generation ends."""
    body_read_s: float = 15.0
    """A request body must arrive within this long, and the time for its bytes at `body_bytes_s`."""
    body_bytes_s: Above0 = 256 * 1024
    api_keys: str = ""
    """`tenant=key` pairs, comma-separated, no key twice. Empty: no authentication, which binds loopback only."""
    allowed_hosts: str = ""
    """Without keys: further names that calls may be sent to (`Host`) beside `host`, loopback and dotless names."""
    allowed_origins: str = ""
    """Origins (`https://chat.example`, comma-separated) whose pages may call and read answers (CORS); `*`, with keys
    only: all. Without keys pages of such hosts may call too, but not read."""
    metrics: Literal["auto", "open", "key"] = "auto"
    """Whether `/metrics` asks for a key. `auto`: where keys are set and `host` is not loopback."""
    callback_hosts: str = ""
    """Allow-list of callback hosts (comma-separated, `*.example.org` allowed); empty: any public https host."""
    callback_allow_http: bool = False
    callback_allow_private: bool = False
    """Lets callbacks reach loopback and private addresses: for tests and the demo, never in production."""
    reply_topics: str = ""
    """Further topics that a foreign producer may name in `replytopic` (comma-separated)."""


class RouterSettings(Group, frozen=True, kw_only=True):
    binding: Literal["http", "log"] = "http"
    """`http`: Flask function fed by the source process (KafkaSource on a cluster); `log`: a consumer."""
    host: str = "127.0.0.1"
    port: Port = 0
    threads: Count = 8
    source_in_flight: Count = 32
    request_timeout_s: float = 10.0
    give_up_tries: int = 10
    """A record that failed this often, while others got through each time, is given up: a failed reply, a dead letter.
    While nothing gets through the router or the broker is away, and everything waits."""
    give_up_s: float = 120.0
    """... but not before this long after its first failure."""
    max_hops: int = 4
    classifier: Literal["transformer", "hybrid", "linear", "keyword"] = "transformer"
    """`transformer`: the encoder wherever there is a choice; `hybrid`: only where the linear stage is unsure; `linear`;
    `keyword`: the rule."""
    weights: str = ""
    """Directory of the classifier's weights; empty: the shipped ones. Unusable: the keyword rule, loudly."""
    encoder_threads: int = 2
    """Threads of the encoder for one prompt; 0 lets it take every core."""
    history: int | None = None
    """Recent values of T and of C that count in scores beside the candidates (docs/adr/0012). None: 512 where the
    catalogue's `norm` is distributional, else 0. With several routers each has its own."""


class WorkerSettings(Group, frozen=True, kw_only=True):
    service: str = ""
    replica: str = "0"
    revision: str = ""
    """This pod's Knative revision (`K_REVISION`). The worker holds its topic only while the controller names this
    revision, or none at all; empty: always.
    """
    pinned: str = ""
    """JSON of the service, its model and the cascades as this pod's revision was rolled out with them: the catalogue's
    file is always the newest. Empty: as the catalogue has them.
    """
    host: str = "127.0.0.1"
    """Address of /ready, /live and /metrics; a pod binds 0.0.0.0."""
    port: Port = 0
    """Port of /ready, /live and /metrics; 0 lets the system choose."""
    max_attempts: Count = 3
    """Model calls of one request at one service, crashes included."""
    max_calls: Count = 5
    """Model calls of one request over all services that are called for it: steps of a cascade, and who stands by. Each
    of these may be called once in any case."""
    read_ahead: int = 512
    """Records that are fetched before their turn: among so many tenants take turns, however long one's queue is."""
    read_ahead_bytes: int = 16 * 1024 * 1024
    """Of their bodies together; more are not fetched."""
    chunk_ms: int = 30
    """Streamed parts are coalesced for this long."""
    drain_s: float = 20.0
    max_reply_bytes: int = 512 * 1024
    hold_bytes: int = 256 * 1024
    """A cascade's stream that is not sure is held up to this size; then the next step answers."""
    backend_idle_s: float = 60.0
    """A stream that has begun and then sends nothing for this long has failed the attempt. Before its first token
    only the service's `timeout_s` and the deadline bound it: a long prompt takes its time."""
    unreachable_s: float = 1.0
    """A server reached by URL that refuses connections (or the gateway) for this long at a start is not loading: the
    start has failed. 0: as long as a start may take, for a server that is started beside the worker."""
    failed_starts: int = 3
    """After so many failed starts in a row what waits for the service is answered 503, or by a service that stands
    by; no caller waits for a further start."""
    failed_hold_s: float = 30.0
    """For so long, doubled with each further failure, nothing is sent to it; then one request tries it again."""
    busy_s: float = 10.0
    """A server that answers 429 or 503, or takes no connection, for this long is left to a service that stands by;
    where none does, it is asked again until the deadline."""
    breaker_window_s: float = 60.0
    """The breaker of a service opens when, of the requests whose calls ended within this long ..."""
    breaker_calls: int = 5
    """... there are at least so many ..."""
    breaker_share: Share = 0.5
    """... and more than this share of them failed (0 to 1; the mean of the tenants' shares). 1: never."""
    breaker_open_s: float = 10.0
    """Then nothing new is sent to it for so long, doubled each time its one probe fails, at most five minutes."""
    sleep_level: Literal[0, 1, 2] = 0
    """vLLM: an idle model gives its GPU memory back, weights to host memory (1) or dropped (2). 0: never."""
    sleep_after_s: float = 60.0
    """Idle this long, it sleeps; the next call wakes it."""
    stuck_s: float = 90.0
    """Not live when the poll thread has not turned for this long, or jobs are counted that nobody runs."""
    server_python: str = ""
    """Interpreter that has vLLM, where the worker starts it; empty: the worker's own."""


class SpinSettings(Group, frozen=True, kw_only=True):
    idle_s: float | None = None
    """Overrides every service's idle time tau; None leaves the catalogue's."""
    poll_s: Above0 = 0.2
    """How often lag is read; bounds activation latency."""
    window_s: Above0 = 300.0
    """Window of Algorithm 1."""
    drain_goal_s: Above0 = 10.0


class ScalerSettings(Group, frozen=True, kw_only=True):
    """KEDA's external-push scaler. What it decides by is in `SpinSettings`."""

    host: str = "127.0.0.1"
    """Address of both ports; a pod binds 0.0.0.0."""
    port: Port = 6000
    """gRPC; 0 lets the system choose."""
    probe_port: Port = 9100
    """HTTP: /live, /ready and /metrics; 0 lets the system choose."""
    poll_s: float = 0.05
    """How often the ends of all topics are read while anyone listens; bounds activation latency."""
    quiet_poll_s: float = 1.0
    """The same while nobody listens."""
    listener_s: float = 60.0
    """Who asked without a stream counts as listening for this long."""
    max_share: Share = 0.25
    """Most of one core that reading and deciding may take: rounds that cost more come less often."""
    commit_s: float = 0.5
    """How often commits of services with lag are read."""
    refresh_s: float = 10.0
    """How often everything else is: commits without lag, partitions, leaders."""
    catalogue_s: float = 5.0
    """How often the catalogue's file is looked at."""
    blind_s: float = 5.0
    """Not ready when no whole reading succeeded for this long."""
    push_again_s: float = 2.0
    """An activation is pushed again after this long while no replica reports, and at most this often on new work."""
    max_streams: int = 1000
    """Open streams; KEDA holds one for each trigger."""
    drain_s: float = 3.0
    """After SIGTERM calls may finish for this long."""


class ControllerSettings(Group, frozen=True, kw_only=True):
    """The controller on Kubernetes."""

    namespace: str = "default"
    """Where its objects are; it looks nowhere else."""
    release: str = "pickspin"
    """The installation it cares for: the label app.kubernetes.io/instance, and the start of its objects' names."""
    identity: str = ""
    """Its name in the lease; empty: the host's name, which is the pod's."""
    kubeconfig: str = ""
    """A file; empty: the pod's service account, else the usual kubeconfig."""
    host: str = "127.0.0.1"
    """Address of /live, /ready and /metrics; a pod binds 0.0.0.0."""
    port: Port = 9100
    """Port of the same; 0 lets the system choose."""
    lease_s: float = 15.0
    """A standby takes over when the lease was not renewed for this long."""
    renew_s: float = 10.0
    """Who could not renew for this long stops acting; shorter than `lease_s`."""
    retry_s: float = 2.0
    """How often the lease is renewed or looked at."""
    tick_s: float = 1.0
    """How often pods, warmth and the revisions that hold topics are looked at."""
    activator_metrics: str = (
        "http://activator-service.knative-serving.svc.cluster.local:9090/metrics"
    )
    """The activator's metrics, which wake a revision by HTTP where its template asks for that."""
    offsets_every_s: float = 86400.0
    """Missing offsets of consumer groups are committed at start and this often; below the broker's retention of them.
    """
    recover_tries: int = 5
    """A broken service's pod is replaced this often before it is left to Kubernetes alone."""
    recover_backoff_s: float = 10.0
    """Between two replacements, doubled each time."""
    recover_after_s: float = 60.0
    """A service without a ready replica counts as broken this long after its own `start_timeout_s`."""
    history_weeks: int = 4
    """Weeks of requests that prewarming by habit looks at."""
    habit_share: Share = 0.75
    """A service is warm ahead of an hour of the week that had requests in at least this share of those weeks."""
    habit_requests: float = 3.0
    """... and on average at least this many of them."""


class StoreSettings(Group, frozen=True, kw_only=True):
    url: str = ""
    """SQLAlchemy URL; empty: SQLite `store.sqlite3` in the data directory."""
    retention_days: float = 7.0
    keep_prompts: bool = True
    """What requests asked is kept as long as their answers, for learning and replaying; false: until their end."""
    route_bound_s: float = 30.0
    """Accepted but not routed for this long: published again."""
    reap_s: Above0 = 0.25
    boot_id: str = ""
    """Set by the local stack: a new value means that an in-memory broker was lost with its records."""


class RecorderSettings(Group, frozen=True, kw_only=True):
    """What runs beside the store: batches."""

    tenant_batches: int = 4
    """Batches of one tenant that are worked on at once; those whose lines only wait for their model do not count."""
    tenant_lines: int = 400
    """Unfinished lines of one tenant's batches on the log; a few more for each batch that has fewer than ten there."""


class CallbackSettings(Group, frozen=True, kw_only=True):
    schedule_s: str = "0,5,300,1800,7200,18000,36000,50400,72000,86400"
    """Delays between attempts (Standard Webhooks' example), jittered by 10 %."""
    attempt_timeout_s: float = 10.0
    max_response_bytes: int = 64 * 1024
    concurrency: Count = 32
    """Attempts out at once."""
    tenant_concurrency: Count = 8
    """... of one tenant, whose receivers may hang: the rest is for others."""
    target_concurrency: Count = 4
    host_concurrency: Count = 8
    """... to one host, whoever's targets they are; at most three quarters of them of one tenant."""


class ProbeSettings(Group, frozen=True, kw_only=True):
    """/ready, /live and /metrics of recorder and callbacks, which have no other door."""

    host: str = "127.0.0.1"
    """A pod binds 0.0.0.0."""
    port: Port | None = None
    """0 lets the system choose; None: none."""


class Settings(Group, frozen=True, kw_only=True):
    """All groups. A process takes the groups it needs from the one object its wiring receives."""

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
    """Path of the catalogue; empty: the built-in one."""
    data_dir: str = ""
    """Where store, blobs, logs and converted weights lie; empty: `~/.local/share/pickspin`."""
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
    found = os.environ if environ is None else environ
    return read_groups(Settings, found, short_names=SHORT_NAMES)


def is_given(*place: str, environ: Mapping[str, str] | None = None) -> bool:
    """Whether the environment sets that field of a group, under either of its names."""
    found = os.environ if environ is None else environ
    short = [name for name, where in SHORT_NAMES.items() if where == place]
    return any(name in found for name in (build_variable(*place), *short))


def mask_settings(settings: Settings) -> dict[str, Any]:
    """The effective settings for printing, secrets (the password of a URL too) replaced by `***`."""
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
