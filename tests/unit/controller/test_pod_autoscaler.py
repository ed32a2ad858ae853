import pytest

from functions.controller.knative_class.pod_autoscaler import find_serving
from functions.ports.kubernetes import POD_AUTOSCALERS, SCALED_OBJECTS

PAUSED_REPLICAS = "autoscaling.keda.sh/paused-replicas"


def is_paused(knative, name):
    found = knative.scaled(name)
    return found is not None and found["metadata"]["annotations"].get(PAUSED_REPLICAS) == "0"


def holder(knative):
    found = find_serving(
        each for key, each in knative.api.everything().items() if key[0] == POD_AUTOSCALERS
    )
    return None if found is None else found.name


@pytest.fixture
def old(bench, knative):
    name = knative.revision(1)
    bench.start(name)
    knative.route(name)
    bench.settle()
    return name


def test_a_revision_holds_the_topic_once_it_was_ready_and_is_routed_to(bench, knative):
    name = knative.revision(1)
    bench.settle()
    assert holder(knative) is None
    bench.start(name)
    assert holder(knative) is None, "ready, but no route leads to it yet"
    knative.route(name)
    bench.settle()
    assert holder(knative) == name


def test_a_superseded_revision_is_paused_at_zero(bench, knative, old):
    new = knative.revision(2)
    bench.start(new)
    assert holder(knative) == old
    knative.route(new)
    bench.settle()
    assert holder(knative) == new
    assert not is_paused(knative, old), "both are routed to for a moment"
    knative.route(old, "Unreachable")
    bench.settle()
    assert is_paused(knative, old)
    assert not is_paused(knative, new)
    assert "RevisionRetired" in bench.events()


def test_broken_weights_never_take_over(bench, knative, old):
    new = knative.revision(2)
    knative.route(new)  # Knative calls the newest one reachable from the start
    bench.settle()
    knative.serve(new)
    bench.settle()
    assert holder(knative) == old
    knative.route(new, "Unreachable")  # its containers fail
    bench.settle()
    assert holder(knative) == old
    assert not is_paused(knative, old)
    assert knative.scaled(new) is None, "it may still come up within its progress deadline"
    knative.fail_progress(new)
    bench.settle()
    assert is_paused(knative, new), "then it gives its GPU back"
    assert knative.condition(new, "Ready") == "False"
    assert not is_paused(knative, old)
    knative.replicas(new, 0, 0)
    knative.change_conditions(new, [])
    knative.route(new)  # at zero nothing fails any more: Knative calls it reachable again
    bench.settle()
    assert is_paused(knative, new)
    assert knative.condition(new, "Ready") == "False"


def test_a_revision_that_gave_up_stays_at_zero_when_its_failure_is_no_longer_seen(
    bench, knative, old
):
    new = knative.revision(2)
    bench.settle()
    knative.serve(new)
    knative.route(new, "Unreachable")
    knative.fail_progress(new)
    bench.settle()
    knative.replicas(new, 0, 0)
    knative.change_conditions(new, [])
    knative.route(new, "Unknown")
    bench.settle()
    assert is_paused(knative, new)


def test_failing_containers_do_not_pause_the_revision_that_serves(bench, knative, old):
    knative.replicas(old, 1, 0)
    knative.route(old, "Unreachable")
    bench.settle()
    assert not is_paused(knative, old)


def test_a_failing_new_revision_does_not_wake_the_superseded_one(bench, knative, old):
    new = knative.revision(2)
    bench.start(new)
    knative.route(new)
    knative.route(old, "Unreachable")
    bench.settle()
    knative.route(new, "Unreachable")
    bench.settle()
    assert is_paused(knative, old)
    assert not is_paused(knative, new)


def test_routing_back_to_the_old_revision_gives_it_the_topic_again(bench, knative, old):
    new = knative.revision(2)
    bench.start(new)
    knative.route(new)
    knative.route(old, "Unreachable")
    bench.settle()
    knative.route(old)
    knative.route(new, "Unreachable")
    bench.settle()
    assert holder(knative) == old
    assert not is_paused(knative, old)
    assert is_paused(knative, new)
    assert "RevisionResumed" in bench.events()


def test_a_pause_does_not_wait_for_a_usable_spec(bench, knative, old):
    new = knative.revision(2)
    bench.start(new)
    knative.route(new)
    knative.scaling("{")
    knative.route(old, "Unreachable")
    bench.settle()
    assert is_paused(knative, old)


def test_services_do_not_retire_each_other(bench, knative, old):
    knative.scaling(slug="other")
    other = knative.revision(7, "other")
    bench.start(other)
    knative.route(other)
    knative.route(old, "Unreachable")
    bench.settle()
    assert not is_paused(knative, old)


def test_a_pause_taken_off_by_hand_is_put_back(bench, knative, old):
    new = knative.revision(2)
    bench.start(new)
    knative.route(new)
    knative.route(old, "Unreachable")
    bench.settle()
    knative.change(
        SCALED_OBJECTS, old, lambda found: found["metadata"]["annotations"].pop(PAUSED_REPLICAS)
    )
    bench.settle()
    assert is_paused(knative, old)
