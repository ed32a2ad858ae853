"""Installed, upgraded, rolled back, uninstalled: nothing stays on the cluster, and Kafka keeps what was committed."""

import pytest
from door import Door
from kafka import KafkaAdminClient
from kube_api import KubeApi
from release import FAKE, Release, fake, image_names, kubectl, lane_values, merged

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
NAMESPACE = "second"
PREFIX = "second."
GROUP = "second.infer-model-tiny"
CATALOGUE = {
    "models": [{"id": "tiny", **FAKE}],
    "services": [fake("tiny", "knative", partitions=2)],
}
NOT_OURS = ("events", "events.events.k8s.io", "leases.coordination.k8s.io")


def namespaced_kinds():
    names = kubectl("api-resources", "--verbs=list", "--namespaced", "-o", "name").split()
    return ",".join(name for name in names if name not in NOT_OURS)


def everything_in(namespace):
    kinds = namespaced_kinds()
    return set(kubectl("get", kinds, "-n", namespace, "-o", "name", "--ignore-not-found").split())


def committed(bootstrap):
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        found = admin.list_group_offsets([GROUP])[GROUP]
        return {(place.topic, place.partition): one.offset for place, one in found.items()}
    finally:
        admin.close()


def test_a_release_comes_changes_goes_back_and_goes_without_a_trace(lane, timeline, prepare):
    kubectl("create", "namespace", NAMESPACE)
    before = everything_in(NAMESPACE)
    release = Release("two", NAMESPACE, lane.postgres)
    api = KubeApi(lane.kubeconfig, NAMESPACE)
    values = merged(
        lane_values(image_names(), prepare.volumes(NAMESPACE), CATALOGUE),
        {"global": {"topicPrefix": PREFIX}, "knative": {"router": {"binding": "log"}}},
    )
    try:
        release.install(values)
        prepare.await_ready(api, timeline)
        door = Door(release)
        door.await_open(60.0)
        for number in range(3):
            answer = door.chat("tiny", f"nonce:life-{number}.")
            assert (answer.status, f"nonce:life-{number}." in answer.text) == (200, True), answer
        changed = merged(values, {"knative": {"ingress": {"replicas": 2}}})
        release.install(changed)
        prepare.await_ready(api, timeline)
        assert len(api.list("pods", labels="app.kubernetes.io/component=ingress")) == 2
        release.rollback()
        prepare.await_ready(api, timeline)
        prepare.await_true(
            lambda: len(api.list("pods", labels="app.kubernetes.io/component=ingress")) == 1,
            90.0,
            "one ingress again",
        )
        assert door.chat("tiny", "nonce:again.").status == 200
        kept = committed(lane.kafka)
        assert sum(kept.values()) >= 4, kept
        door.close()
        release.uninstall()
        ours = {
            name for name in everything_in(NAMESPACE) - before if "secret/pickspin-" not in name
        }
        prepare.await_true(
            lambda: (
                not {
                    name
                    for name in everything_in(NAMESPACE) - before
                    if "secret/pickspin-" not in name
                }
            ),
            120.0,
            f"nothing left of {ours}",
        )
        assert committed(lane.kafka) == kept
        release.install(values)
        prepare.await_ready(api, timeline)
        assert committed(lane.kafka) == kept
    finally:
        release.close()
        api.close()
