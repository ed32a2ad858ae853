"""The cluster of tests/cluster/lane, the release that most tests share, and what happened when."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent / "lane"))

from audit import AuditLog
from door import Door
from kube_api import KubeApi
from log_tail import LogTail
from release import (
    FAKE,
    SMOLLM,
    Release,
    Values,
    fake,
    image_names,
    lane_values,
    llamacpp,
    merged,
    run,
)
from timeline import SERVICE_LABEL, ScaleWatch, Timeline, service_of

LANE = Path(__file__).parent / "lane"
NAMESPACE = "lane"
RELEASE = "ps"


@dataclass(frozen=True, slots=True)
class Lane:
    """The running cluster, as `cluster-up` printed it."""

    kubeconfig: Path
    state: Path
    kafka: str
    postgres: str
    logs: Path
    lane: Path = LANE

    def execute(self, *command: str, may_fail: bool = False) -> str:
        """Runs a command inside the cluster's namespaces: to stop, kill or start one of its parts."""
        return run(str(LANE / "cluster-exec"), *command, may_fail=may_fail)

    @property
    def audit(self) -> AuditLog:
        """What its API server wrote, and when."""
        return AuditLog(self.state / "logs" / "audit.log")

    def pid(self, part: str) -> str:
        """Of a part, as seen inside."""
        return (self.state / "pids" / part).read_text(encoding="utf-8").strip()


@pytest.fixture(scope="session")
def lane() -> Lane:
    if "CLUSTER_KAFKA" not in os.environ:
        pytest.fail("there is no cluster in the environment: `make cluster-test` makes one")
    return Lane(
        kubeconfig=Path(os.environ["KUBECONFIG"]),
        state=Path(os.environ["CLUSTER_STATE"]),
        kafka=os.environ["CLUSTER_KAFKA"],
        postgres=os.environ["CLUSTER_POSTGRES"],
        logs=Path(os.environ.get("CLUSTER_LOGS", "build/cluster")),
    )


@pytest.fixture(scope="session")
def api(lane: Lane) -> Iterator[KubeApi]:
    found = KubeApi(lane.kubeconfig, NAMESPACE)
    yield found
    found.close()


@pytest.fixture(scope="session")
def timeline(lane: Lane) -> Iterator[Timeline]:
    found = Timeline(lane.logs / "timeline.jsonl")
    yield found
    found.close()


@pytest.fixture(scope="session")
def scales(api: KubeApi, timeline: Timeline) -> Iterator[ScaleWatch]:
    found = ScaleWatch(api, timeline)
    yield found
    found.close()


CATALOGUE: Values = {
    "models": [{"id": name, **SMOLLM} for name in ("smollm2-knative", "smollm2-deployment")]
    + [{"id": name, **FAKE} for name in ("fake-knative", "fake-deployment")],
    "services": [
        llamacpp("smollm2-knative", "knative"),
        llamacpp("smollm2-deployment", "deployment"),
        fake("fake-knative", "knative", max_replicas=3),
        fake("fake-deployment", "deployment", max_replicas=3),
    ],
}
SLUGS = [service["slug"] for service in CATALOGUE["services"]]


@dataclass(frozen=True, slots=True)
class Installed:
    """The release, its door, what is on the log, and what scales."""

    release: Release
    door: Door
    tail: LogTail
    scales: ScaleWatch
    timeline: Timeline
    api: KubeApi
    audit: AuditLog

    def roll_out(self, values: Values, *, is_waiting: bool = True) -> None:
        """Upgrades the release and, unless told not to, waits until every part is ready."""
        self.release.install(values)
        self.timeline.note("helm_upgraded")
        if is_waiting:
            self.await_ready()

    def await_ready(self, timeout_s: float = 180.0) -> None:
        """Waits until every part is ready."""
        await_ready(self.api, self.timeline, timeout_s)

    def await_zero(
        self, *services: str, timeout_s: float = 150.0, is_hurried: bool = False
    ) -> None:
        """Waits until no Deployment of these services (none named: of any) wants a replica and no pod is left.

        Hurried, pods that were told to end get a second for it: those of Knative wait for half a minute first.
        """
        wanted = set(services or SLUGS)

        def is_at_zero() -> bool:
            deployments = self.api.list("deployments")
            pods = self.api.list("pods", labels=SERVICE_LABEL)
            counts = [d["spec"].get("replicas", 1) for d in deployments if service_of(d) in wanted]
            assert counts, f"there is no Deployment of {wanted}"
            left = [pod["metadata"] for pod in pods if service_of(pod) in wanted]
            for metadata in left:
                if is_hurried and "deletionTimestamp" in metadata:
                    self.api.delete("pods", metadata["name"], grace_s=1)
            return not any(counts) and not left

        await_true(is_at_zero, timeout_s, f"no replicas of {', '.join(sorted(wanted))}")


def await_true(is_so: Callable[[], bool], timeout_s: float, what: str) -> float:
    """Seconds until `is_so`.

    Raises:
        AssertionError: it was not in time.
    """
    began = time.monotonic()
    while not is_so():
        assert time.monotonic() - began < timeout_s, f"not within {timeout_s:.0f} s: {what}"
        time.sleep(0.2)
    return time.monotonic() - began


def prepare_volumes(lane: Lane, namespace: str) -> Path:
    """A directory of the node for the release's volumes, writable by the user of its pods."""
    folder = lane.state / "volumes" / namespace
    (folder / "pickspin-data").mkdir(parents=True, exist_ok=True)
    for path in (folder, folder / "pickspin-data"):
        path.chmod(0o1777)
    return folder


@pytest.fixture(scope="session")
def values(lane: Lane) -> Values:
    found = lane_values(image_names(), prepare_volumes(lane, NAMESPACE), CATALOGUE)
    return merged(found, yaml.safe_load(os.environ.get("CLUSTER_VALUES", "{}")))


@pytest.fixture(scope="session")
def installed(
    lane: Lane, api: KubeApi, timeline: Timeline, scales: ScaleWatch, values: Values
) -> Iterator[Installed]:
    """The charts on the cluster with every part ready and every model at zero: what most tests share."""
    release = Release(RELEASE, NAMESPACE, lane.postgres)
    timeline.note("helm_install")
    try:
        release.install(values)
        timeline.note("helm_installed")
        await_ready(api, timeline)
        door = Door(release)
        door.await_open(60.0)
        tail = LogTail(lane.kafka, SLUGS, timeline)
        found = Installed(release, door, tail, scales, timeline, api, lane.audit)
        found.await_zero(timeout_s=300.0)
        timeline.note("at_zero")
        yield found
        tail.close()
        door.close()
    finally:
        if not os.environ.get("CLUSTER_KEEP"):
            release.close()


def await_ready(api: KubeApi, timeline: Timeline, timeout_s: float = 180.0) -> None:
    """Waits until every Knative Service, KafkaSource, StatefulSet and Deployment of ours is ready, noting when."""
    seen: set[str] = set()

    def are_all() -> bool:
        waiting = []
        for kind in ("services.serving", "kafkasources", "statefulsets", "deployments"):
            for one in api.list(kind):
                name = f"{kind}/{one['metadata']['name']}"
                if not is_up(kind, one):
                    waiting.append(name)
                elif name not in seen:
                    seen.add(name)
                    timeline.note("ready", what=name)
        are_all.waiting = waiting
        return bool(seen) and not waiting

    are_all.waiting = []
    try:
        await_true(are_all, timeout_s, "everything ready")
    except AssertionError as error:
        raise AssertionError(f"{error}: {are_all.waiting}") from error


def is_up(kind: str, found: dict[str, Any]) -> bool:
    """Ready by its condition; a Deployment or StatefulSet by its counts (none wanted is ready)."""
    status = found.get("status", {})
    if status.get("observedGeneration") != found["metadata"]["generation"]:
        return False
    if kind in {"deployments", "statefulsets"}:
        wanted = found["spec"].get("replicas", 1)
        return bool(status.get("readyReplicas", 0) == status.get("updatedReplicas", 0) == wanted)
    return any(
        one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions", [])
    )


@pytest.fixture
def prepare(lane: Lane) -> SimpleNamespace:
    """What a test needs to bring up a release of its own."""
    return SimpleNamespace(
        volumes=lambda namespace: prepare_volumes(lane, namespace),
        await_ready=await_ready,
        await_true=await_true,
    )
