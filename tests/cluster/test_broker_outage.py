"""Kafka away for a minute in the middle of work, with either way of feeding the router: nothing accepted is lost."""

import time

import pytest
from load import Load
from release import merged

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(1200)]
OUTAGE_S = 60.0
MODELS = ["fake-knative", "fake-deployment"]


@pytest.fixture(params=["http", "log"])
def binding(request, installed, values):
    """`http`: a Knative Service fed by KafkaSource; `log`: a Deployment that consumes by itself."""
    if request.param == "http":
        assert installed.api.list("kafkasources"), "the release has no KafkaSource"
        yield request.param
        return
    installed.roll_out(merged(values, {"knative": {"router": {"binding": "log"}}}))
    assert not installed.api.list("kafkasources")
    yield request.param
    installed.roll_out(values)


def test_a_minute_without_kafka_loses_nothing(installed, lane, binding):
    here = str(lane.lane)
    loads = [Load(installed.door, model, pause_s=0.4) for model in MODELS]
    with loads[0], loads[1]:
        for load in loads:
            load.await_accepted(15, timeout_s=120.0)
        lane.execute(f"{here}/kafka-down", "TERM")
        stopped = installed.timeline.note("kafka_stopped", binding=binding)["at"]
        time.sleep(OUTAGE_S)  # the outage itself
        lane.execute(f"{here}/kafka-up")
        back = installed.timeline.note("kafka_back", binding=binding)["at"]
        assert back - stopped >= OUTAGE_S
        for load in loads:
            load.await_accepted(25, timeout_s=180.0)
    for load in loads:
        assert load.refused, "the outage was not noticed"
        load.assert_nothing_lost(installed.tail.outcomes, timeout_s=300.0)
    installed.await_zero(*MODELS)
