"""Each check fires on the cluster that has its pitfall, and stays silent on the one that does not."""

from datetime import timedelta

import pytest

from functions.doctor.checks import CHECKS, examine
from functions.doctor.scaling_checks import compute_retry_budget_s

HPA = "hpa.autoscaling.knative.dev"
HTTP_WAKE = {"keda.pickspin.io/http-wake": "true"}


def log(healthy, build, **changes):
    return build.replace(healthy, log=build.replace(healthy.log, **changes))


def config(healthy, build, name, **changes):
    found = {key.replace("_", "-"): value for key, value in changes.items()}
    knative = dict(healthy.knative)
    knative[name] = {
        key: value for key, value in (knative[name] | found).items() if value is not None
    }
    return build.replace(healthy, knative=knative)


def with_old_revision(healthy, build, *, replicas, paused):
    return build.replace(
        healthy,
        revisions=(build.revision("small-00001"), build.revision("small-00002")),
        autoscalers=(
            build.autoscaler("small-00001", "Unreachable"),
            build.autoscaler("small-00002"),
        ),
        deployments=(
            build.deployment("small-00001-deployment", replicas=replicas),
            build.deployment("small-00002-deployment"),
        ),
        scaled_objects=(
            build.scaled_object("small-00001", "small-00001-deployment", paused=paused),
            build.scaled_object("small-00002", "small-00002-deployment"),
        ),
    )


SICK = {
    1: lambda s, b: b.replace(s, knative_deployments=("autoscaler-hpa", "autoscaler-keda")),
    2: lambda s, b: b.replace(
        s, scaled_objects=(b.scaled_object("one"), b.scaled_object("another"))
    ),
    3: lambda s, b: b.replace(
        s,
        services=(b.knative_service(kind=HPA),),
        scaled_objects=(b.scaled_object(initialCooldownPeriod=0),),
    ),
    4: lambda s, b: log(s, b, gaps={(b.GROUP, b.TOPIC): 5}),
    5: lambda s, b: log(s, b, offsets_retention_minutes=60),
    6: lambda s, b: b.replace(
        s, scaled_objects=(b.scaled_object(triggers=[b.kafka_trigger(offsetResetPolicy=None)]),)
    ),
    7: lambda s, b: b.replace(s, scaled_objects=(b.scaled_object(maxReplicaCount=13),)),
    8: lambda s, b: with_old_revision(s, b, replicas=2, paused="0"),
    9: lambda s, b: config(s, b, "config-gc", max_non_active_revisions=None),
    10: lambda s, b: b.replace(
        s, services=(b.knative_service(nodeSelector={"gpu": "a100"}, tolerations=[{"key": "gpu"}]),)
    ),
    11: lambda s, b: b.replace(
        s,
        services=(b.knative_service(annotations={"serving.knative.dev/progress-deadline": "10m"}),),
    ),
    12: lambda s, b: b.replace(s, services=(b.knative_service(timeoutSeconds=900),)),
    13: lambda s, b: b.replace(
        s, scaled_objects=(b.scaled_object(triggers=[b.kafka_trigger(version=None)]),)
    ),
    14: lambda s, b: b.replace(
        config(s, b, "config-observability", metrics_protocol="none"),
        services=(b.knative_service(annotations=HTTP_WAKE),),
    ),
    15: lambda s, b: b.replace(s, sources=(b.source(delivery={"retry": 5}),)),
    16: lambda s, b: b.replace(s, missing=frozenset({"ScaledObject"})),
    17: lambda s, b: b.replace(
        s,
        deployments=(
            b.deployment(
                "recorder",
                replicas=2,
                env=[{"name": "PICKSPIN_STORE_URL", "value": "sqlite:////data/s"}],
            ),
        ),
    ),
    18: lambda s, b: b.replace(s, renewed={"node-1": b.NOW + timedelta(seconds=30)}),
    19: lambda s, b: b.replace(s, scaled_objects=(b.scaled_object(cooldownPeriod=300),)),
    20: lambda s, b: b.replace(
        s, scaled_objects=(b.scaled_object(triggers=[{"type": "external-push"}]),)
    ),
}


def found(snapshot, number):
    """What one check says. (Others may have something to say too.)"""
    return {check.number: findings for check, findings in examine(snapshot)}[number]


@pytest.mark.parametrize("number", [check.number for check in CHECKS])
def test_it_fires_on_its_pitfall_and_says_what_to_do(number, healthy, build):
    findings = found(SICK[number](healthy, build), number)
    assert findings
    assert all(each.where and each.what and each.fix for each in findings)


@pytest.mark.parametrize("number", [check.number for check in CHECKS])
def test_it_is_silent_on_a_healthy_cluster(number, healthy):
    assert found(healthy, number) == ()


def test_the_checks_are_numbered_without_a_gap():
    assert [check.number for check in CHECKS] == list(range(1, len(CHECKS) + 1))


def test_without_the_log_its_checks_are_left_out(healthy, build):
    made = {check.number for check, _ in examine(build.replace(healthy, log=None))}
    assert made == {check.number for check in CHECKS if not check.needs_log}


# ---- one check more than once


def test_either_bridge_alone_is_fine(healthy, build):
    for name in ("autoscaler-hpa", "autoscaler-keda"):
        assert not found(build.replace(healthy, knative_deployments=(name,)), 1)


def test_our_own_class_needs_no_cooldown_for_the_first_boot(healthy, build):
    snapshot = build.replace(
        healthy, scaled_objects=(build.scaled_object(initialCooldownPeriod=0),)
    )
    assert not found(snapshot, 3)


def test_a_cooldown_shorter_than_the_start_is_too_short(healthy, build):
    snapshot = build.replace(
        healthy,
        services=(build.knative_service(kind=HPA),),
        scaled_objects=(build.scaled_object(initialCooldownPeriod=600),),
    )
    assert "1200" in found(snapshot, 3)[0].fix


def test_records_kept_for_ever_outlast_every_offset(healthy, build):
    assert found(log(healthy, build, topic_retention_ms={build.TOPIC: -1}), 5)


def test_the_default_retention_of_offsets_is_a_warning(healthy, build):
    findings = found(log(healthy, build, offsets_retention_minutes=10_080), 5)
    assert [each.severity for each in findings] == ["warning"]


def test_a_source_that_starts_at_the_end_skips_requests(healthy, build):
    assert found(build.replace(healthy, sources=(build.source(initialOffset="latest"),)), 6)


def test_an_old_revision_held_at_zero_serves_nobody(healthy, build):
    assert not found(with_old_revision(healthy, build, replicas=0, paused="0"), 8)


def test_an_old_revision_that_could_wake_is_a_pitfall_at_zero_too(healthy, build):
    findings = found(with_old_revision(healthy, build, replicas=0, paused=None), 8)
    assert findings[0].where == "ScaledObject small-00001"


def test_a_writable_claim_needs_a_second_flag(healthy, build):
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    snapshot = build.replace(healthy, services=(build.knative_service(volumes=volumes),))
    assert "persistent-volume-write" in found(snapshot, 10)[0].what
    volumes[0]["persistentVolumeClaim"]["readOnly"] = True
    snapshot = build.replace(healthy, services=(build.knative_service(volumes=volumes),))
    assert not found(snapshot, 10)


def test_a_limit_that_was_raised_allows_longer_timeouts(healthy, build):
    raised = config(healthy, build, "config-defaults", max_revision_timeout_seconds="1800")
    assert not found(
        build.replace(raised, services=(build.knative_service(timeoutSeconds=900),)), 12
    )


def test_a_timeout_within_the_quiet_time_leaves_nothing_for_draining(healthy, build):
    snapshot = build.replace(healthy, services=(build.knative_service(timeoutSeconds=20),))
    assert "draining" in found(snapshot, 12)[0].what


def test_the_deadline_of_the_cluster_counts_where_the_service_has_none(healthy, build):
    service = build.knative_service()
    del service["spec"]["template"]["metadata"]["annotations"][
        "serving.knative.dev/progress-deadline"
    ]
    snapshot = build.replace(healthy, services=(service,))
    assert found(snapshot, 11)
    assert not found(config(snapshot, build, "config-deployment", progress_deadline="1h"), 11)


def test_a_source_without_delivery_has_no_dead_letter_sink(healthy, build):
    findings = found(build.replace(healthy, sources=(build.source(delivery=None),)), 15)
    assert ["deadLetterSink" in each.what for each in findings] == [True]


def test_a_source_whose_retries_end_soon_is_warned_of(healthy, build):
    sink = {"deadLetterSink": {"ref": {"name": "dlq"}}}
    delivery = {
        "retry": 5,
        "backoffPolicy": "exponential",
        "backoffDelay": "PT0.2S",
        **sink,
    }
    findings = found(build.replace(healthy, sources=(build.source(delivery=delivery),)), 15)
    assert [each.severity for each in findings] == ["warning"]


def test_the_budget_of_retries_is_the_sum_of_their_pauses():
    assert compute_retry_budget_s(
        {"retry": 3, "backoffPolicy": "exponential", "backoffDelay": "PT1S"}
    ) == pytest.approx(14.0)
    assert (
        compute_retry_budget_s({"retry": 3, "backoffPolicy": "linear", "backoffDelay": "PT2S"})
        == 12.0
    )


def test_one_pod_may_use_sqlite(healthy, build):
    env = [{"name": "PICKSPIN_STORE_URL", "value": "sqlite:////data/s"}]
    snapshot = build.replace(healthy, deployments=(build.deployment("r", replicas=1, env=env),))
    assert not found(snapshot, 17)


def test_a_lease_that_nobody_renews_is_a_node_that_is_down(healthy, build):
    snapshot = build.replace(healthy, renewed={"node-1": build.NOW - timedelta(minutes=5)})
    assert "down" in found(snapshot, 18)[0].what


def with_window(window_s):
    behavior = {"scaleDown": {"stabilizationWindowSeconds": window_s}}
    return {"advanced": {"horizontalPodAutoscalerConfig": {"behavior": behavior}}}


@pytest.mark.parametrize(
    ("spec", "is_warned_of"),
    [
        ({"cooldownPeriod": 300, **with_window(300)}, True),
        ({"cooldownPeriod": 300, **with_window(600)}, False),
        ({"cooldownPeriod": 300, **with_window(300), "maxReplicaCount": 1}, False),
        ({"cooldownPeriod": 300, **with_window(300), "minReplicaCount": 1}, False),
        ({"cooldownPeriod": None}, True),
    ],
)
def test_scale_in_meets_sleep_where_a_service_both_scales_in_and_sleeps(
    healthy, build, spec, is_warned_of
):
    findings = found(build.replace(healthy, scaled_objects=(build.scaled_object(**spec),)), 19)
    assert [each.severity for each in findings] == ["warning"] * is_warned_of
