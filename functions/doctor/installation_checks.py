"""Pitfalls of an installation: missing kinds, a store on SQLite, clocks that disagree. Pure."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

from functions.doctor.findings import Finding
from functions.doctor.snapshot import ClusterSnapshot, dig, list_containers
from functions.ports.kubernetes import Object, get_name

FUTURE: Final = timedelta(seconds=5)
STALE: Final = timedelta(seconds=60)
"""A node renews its lease every 10 s."""
_FIXES: Final = {
    "Service": "install Knative Serving, or set workload: deployment for every service",
    "Revision": "install Knative Serving, or set workload: deployment for every service",
    "PodAutoscaler": "install Knative Serving, or set workload: deployment for every service",
    "ScaledObject": "install KEDA: without it nothing wakes a model",
    "KafkaSource": "install Knative Eventing with its Kafka source, or set knative.router.binding: log",
}
_STORE: Final = "PICKSPIN_STORE_URL"


def find_missing_kinds(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """Kinds the chart makes objects of."""
    for kind in sorted(snapshot.missing):
        if kind in _FIXES:
            yield Finding("error", f"Kind {kind}", "the cluster does not know it", _FIXES[kind])


def find_shared_sqlite(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """SQLite is one file: several pods would each have their own, or lock each other out."""
    users = [
        (owner, url, dig(owner, "spec", "replicas", default=1))
        for owner in (*snapshot.deployments, *snapshot.stateful_sets)
        for url in _list_store_urls(owner)
    ]
    on_sqlite = [(owner, count) for owner, url, count in users if url.startswith("sqlite")]
    if sum(count for _, count in on_sqlite) > 1:
        names = ", ".join(sorted(get_name(owner) for owner, _ in on_sqlite))
        yield Finding(
            "error",
            "Store",
            f"several pods use SQLite: {names}",
            "set global.store.secret to a secret with the URL of a PostgreSQL",
        )


def find_wrong_clocks(snapshot: ClusterSnapshot) -> Iterator[Finding]:
    """A node whose clock is wrong ends requests early, or takes leases that are held."""
    for node, renewed in sorted(snapshot.renewed.items()):
        ahead = renewed - snapshot.taken_at
        if ahead > FUTURE:
            what = f"its clock is {ahead.total_seconds():.0f} s ahead of this machine's"
        elif -ahead > STALE:
            what = f"its lease is {-ahead.total_seconds():.0f} s old: it is down, or its clock is behind"
        else:
            continue
        yield Finding(
            "error", f"Node {node}", what, "check the node, and that time is synchronised (chrony)"
        )


def _list_store_urls(owner: Object) -> Iterator[str]:
    for container in list_containers(dig(owner, "spec", "template", default={})):
        for variable in dig(container, "env", default=()):
            if variable.get("name") == _STORE and variable.get("value"):
                yield str(variable["value"])
