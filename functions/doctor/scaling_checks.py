"""Pitfalls of KEDA, of offsets, and of the source of requests. Pure.

KEDA is kedacore/keda v2.20 (pkg/scalers/kafka_scaler.go), KB
knative-extensions/eventing-kafka-broker.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from functions.controller.maintenance.keda_push_workaround import is_unheard
from functions.doctor.findings import Finding
from functions.doctor.snapshot import ClusterSnapshot, dig, list_triggers, parse_duration_s
from functions.ports.kubernetes import get_name

WEEK_MINUTES: Final = 7 * 24 * 60
OLDEST_VERSION: Final = (2, 1)
"""Kafka 4 brokers speak nothing older (KIP-896)."""
OUTAGE_S: Final = 60.0
"""An outage of the dead-letter sink that a source's retries should outlast."""
KEDA_COOLDOWN_S: Final = 300
"""`cooldownPeriod` of a ScaledObject that names none."""
HPA_WINDOW_S: Final = 300
"""`--horizontal-pod-autoscaler-downscale-stabilization` of a cluster that says nothing else."""
_SCALE_IN: Final = (
    "advanced",
    "horizontalPodAutoscalerConfig",
    "behavior",
    "scaleDown",
    "stabilizationWindowSeconds",
)
_FIX_OFFSETS: Final = (
    "run the offsets job: kubectl create job --from=cronjob/<release>-prepare-log prepare-log-now"
)
_ISO: Final = "PT"


def find_two_scaled_objects(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """Two on one target fight over its replicas; only KEDA's webhook would refuse the second."""
    by_target: dict[tuple[str, str], list[str]] = defaultdict(list)
    for scaled in snapshot.scaled_objects:
        target = dig(scaled, "spec", "scaleTargetRef", default={})
        key = (target.get("kind", "Deployment"), target.get("name", ""))
        by_target[key].append(get_name(scaled))
    for (kind, name), names in by_target.items():
        if len(names) > 1:
            yield Finding(
                "error",
                f"{kind} {name}",
                f"{len(names)} ScaledObjects scale it: {', '.join(sorted(names))}",
                "delete all but the one that the chart or the controller made",
            )


def find_offset_gaps(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """Without an offset KEDA sees no lag or the whole log, and wakes never or for nothing."""
    if snapshot.log is None:
        return
    for scaled, metadata in _list_kafka_triggers(snapshot):
        key = (metadata.get("consumerGroup", ""), metadata.get("topic", ""))
        count = snapshot.log.gaps.get(key, 0)
        if count:
            yield Finding(
                "error",
                f"ScaledObject {scaled}",
                f"group {key[0]} has no offset on {count} of {snapshot.log.partitions.get(key[1], count)} partitions "
                f"of {key[1]}",
                _FIX_OFFSETS,
            )


def find_expiring_offsets(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """A group without members loses its offsets after `offsets.retention.minutes` (7 days)."""
    if snapshot.log is None or snapshot.log.offsets_retention_minutes is None:
        return
    kept_minutes = snapshot.log.offsets_retention_minutes
    topics = sorted({metadata.get("topic", "") for _, metadata in _list_kafka_triggers(snapshot)})
    longer = [
        topic
        for topic in topics
        if not 0 <= snapshot.log.topic_retention_ms.get(topic, 0) <= kept_minutes * 60_000
    ]
    if longer:
        yield Finding(
            "error",
            "Broker setting offsets.retention.minutes",
            f"offsets of a sleeping group are kept {kept_minutes} min, records longer ({', '.join(longer[:3])}"
            f"{' ...' if len(longer) > 3 else ''}): a model that slept forgets where it was",
            "raise offsets.retention.minutes above the longest retention.ms of the model topics",
        )
    elif topics and kept_minutes <= WEEK_MINUTES:
        yield Finding(
            "warning",
            "Broker setting offsets.retention.minutes",
            f"a model asleep for {kept_minutes // 1440} days loses its offsets",
            "raise it to 30 days (43200), or keep the daily offsets job running",
        )


def find_reset_to_latest(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """`latest` keeps an uncommitted group awake and skips what woke it (keda#2033)."""
    for scaled, metadata in _list_kafka_triggers(snapshot):
        if metadata.get("offsetResetPolicy", "latest") != "earliest":
            yield Finding(
                "error",
                f"ScaledObject {scaled}",
                f"the trigger on {metadata.get('topic')} resets to latest: a group without offsets is always active",
                "set offsetResetPolicy: earliest, as the workers do",
            )
    for source in snapshot.sources:
        if dig(source, "spec", "initialOffset", default="latest") != "earliest":
            yield Finding(
                "error",
                f"KafkaSource {get_name(source)}",
                "initialOffset is latest: requests that were there before it are skipped",
                "set initialOffset: earliest",
            )


def find_idle_replicas(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """A replica beyond the partitions gets nothing to do, and costs the same."""
    if snapshot.log is None:
        return
    for scaled in snapshot.scaled_objects:
        most = dig(scaled, "spec", "maxReplicaCount", default=100)
        sizes = [
            snapshot.log.partitions[topic]
            for metadata in list_triggers(scaled, "kafka")
            if (topic := metadata.get("topic", "")) in snapshot.log.partitions
        ]
        if sizes and most > max(sizes):
            yield Finding(
                "error",
                f"ScaledObject {get_name(scaled)}",
                f"it may have {most} replicas, its topic has {max(sizes)} partitions",
                f"set max_replicas of the service to at most {max(sizes)}, or add partitions (for ever)",
            )


def find_old_protocol(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """KEDA speaks protocol 1.0.0 unless told otherwise, which Kafka 4 no longer understands."""
    for scaled, metadata in _list_kafka_triggers(snapshot):
        version = metadata.get("version", "1.0.0")
        if _numbers(version) < OLDEST_VERSION:
            yield Finding(
                "error",
                f"ScaledObject {scaled}",
                f"the trigger on {metadata.get('topic')} speaks Kafka {version}, brokers of Kafka 4 do not",
                "set global.kafka.version to that of your brokers, at least 2.1.0",
            )


def find_short_retries(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """After its retries a KafkaSource commits: without a sink events are lost (KB OffsetManager)."""
    for source in snapshot.sources:
        delivery = dig(source, "spec", "delivery")
        where = f"KafkaSource {get_name(source)}"
        if not dig(delivery, "deadLetterSink"):
            yield Finding(
                "error",
                where,
                "it has no deadLetterSink: an event that the router refuses is dropped",
                "set spec.delivery.deadLetterSink, for example to a KafkaSink on infer.dlq",
            )
        if delivery is not None and not delivery.get("retry"):
            yield Finding(
                "error",
                where,
                "delivery without retry: setting any field of it replaces every default",
                "set retry, backoffPolicy, backoffDelay and timeout together",
            )
        elif delivery is not None and (budget_s := compute_retry_budget_s(delivery)) < OUTAGE_S:
            yield Finding(
                "warning",
                where,
                f"its retries end after {budget_s:.0f} s; Kafka down for longer takes the dead-letter sink with it",
                f"raise retry or backoffDelay until the sum is above {OUTAGE_S:.0f} s, or use router.binding: log",
            )


def find_late_scale_in(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """An HPA whose write meets KEDA's zero gets a conflict, reads again, and writes its own number
    on top of the zero.

    Seen in the API server's audit log (docs/benchmarks/cluster.md).
    With a window above the idle time it has nothing to write by then.
    """
    for scaled in snapshot.scaled_objects:
        idle_s = dig(scaled, "spec", "cooldownPeriod", default=KEDA_COOLDOWN_S)
        window_s = dig(scaled, "spec", *_SCALE_IN, default=HPA_WINDOW_S)
        may_scale_in = dig(scaled, "spec", "maxReplicaCount", default=100) > 1
        may_sleep = dig(scaled, "spec", "minReplicaCount", default=0) == 0
        if may_scale_in and may_sleep and window_s <= idle_s:
            yield Finding(
                "warning",
                f"ScaledObject {get_name(scaled)}",
                f"scale-in waits {window_s} s and sleep {idle_s} s: an HPA that writes just when KEDA does wakes it",
                "set global.scaling.scaleDown.windowSeconds above the idle times, best to twice the longest",
            )


def find_dropped_pushes(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """KEDA drops the pushes of a trigger whose scaler it did not reach when it reconciled."""
    for scaled in snapshot.scaled_objects:
        if is_unheard(scaled):
            yield Finding(
                "warning",
                f"ScaledObject {get_name(scaled)}",
                "KEDA has not named its external-push trigger and drops the scaler's pushes: it wakes by lag alone",
                "see that KEDA reaches the scaler; the controller then makes it look again within a minute",
            )


def compute_retry_budget_s(delivery: object) -> float:
    """Seconds of all pauses between the tries of a delivery: the n-th is base * 2^n (exponential)
    or base * n (linear).

    Source: eventing-kafka-broker, WebClientCloudEventSender.computeRetryPolicy.
    """
    count = int(dig(delivery, "retry", default=0))
    text = str(dig(delivery, "backoffDelay", default="PT0S"))
    base_s = parse_duration_s(text.removeprefix(_ISO).lower()) or 0.0
    if dig(delivery, "backoffPolicy") == "exponential":
        return base_s * sum(2.0**attempt for attempt in range(1, count + 1))
    return base_s * count * (count + 1) / 2


def _list_kafka_triggers(snapshot: ClusterSnapshot) -> Iterator[tuple[str, dict[str, str]]]:
    for scaled in snapshot.scaled_objects:
        for metadata in list_triggers(scaled, "kafka"):
            yield get_name(scaled), dict(metadata)


def _numbers(version: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in version.split("."))
    except ValueError:
        return (0,)
