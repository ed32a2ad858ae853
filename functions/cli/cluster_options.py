"""How verbs reach a cluster: the options, a snapshot, and one line for everything that is in the way."""

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer

from functions.runtime.errors import PickspinError, StartupFailed
from functions.runtime.process_environment import read_kubeconfig_path
from functions.runtime.settings import load_settings

if TYPE_CHECKING:
    from functions.doctor.snapshot import ClusterSnapshot, LogFacts

CLIENT: Final = "pickspin-cli"
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="Namespace of the installation.")]
Kubeconfig = Annotated[
    str,
    typer.Option(
        help="Kubernetes configuration. [default: $KUBECONFIG, ~/.kube/config; in a pod its account]"
    ),
]
Bootstrap = Annotated[
    str,
    typer.Option(
        help="Kafka brokers as host:port, to read offsets from them. [default: they are not read]"
    ),
]


def has_cluster(kubeconfig: str = "") -> bool:
    """Whether the option or KUBECONFIG names a cluster."""
    return bool(kubeconfig or read_kubeconfig_path())


class ClusterRefused(PickspinError):
    """The cluster let nothing be read; the message says what it said."""


def read_cluster(namespace: str, kubeconfig: str = "", bootstrap: str = "") -> "ClusterSnapshot":
    """A snapshot of the namespace, with the log where brokers are named.

    Raises:
        StartupFailed: no cluster, or no broker, can be reached.
        ClusterRefused: not one kind may be read.
    """
    from functions.doctor.snapshot_reader import list_groups, read_snapshot  # noqa: PLC0415
    from functions.kubernetes.client import KubernetesClient  # noqa: PLC0415 - slow
    from functions.ports.kubernetes import KubernetesFailed  # noqa: PLC0415

    try:
        snapshot = read_snapshot(KubernetesClient(kubeconfig), namespace, datetime.now(UTC))
    except KubernetesFailed as failure:
        raise StartupFailed(
            f"the Kubernetes API is not reached ({failure.message or failure.reason}): is the cluster up, "
            "and is it the one that KUBECONFIG names?"
        ) from failure
    if {"Deployment", "Pod"} <= snapshot.unread.keys():
        raise ClusterRefused(
            f"the cluster refuses to list pods and deployments of namespace {namespace} "
            f"({snapshot.unread['Pod']}): this account needs get and list on them"
        )
    if not bootstrap:
        return snapshot
    return dataclasses.replace(snapshot, log=_read_log(list_groups(snapshot), bootstrap))


def _read_log(groups: Mapping[str, tuple[str, ...]], bootstrap: str) -> "LogFacts":
    from functions import factories  # noqa: PLC0415 - Kafka is slow to import
    from functions.doctor.snapshot_reader import read_log  # noqa: PLC0415
    from functions.kafka.retention import KafkaRetention, explain_kafka_errors  # noqa: PLC0415

    settings = load_settings()
    broker = msgspec.structs.replace(settings.broker, bootstrap=bootstrap, kind="kafka")
    settings = msgspec.structs.replace(settings, broker=broker)
    with explain_kafka_errors(bootstrap):
        lags = factories.open_log(settings).lag_reader(client=CLIENT)
        try:
            retention = KafkaRetention(broker, client=CLIENT)
            try:
                return read_log(groups, lags, retention)
            finally:
                retention.close()
        finally:
            lags.close()
