"""A pod that is gone leaves its consumer group at once, also where its worker was killed."""

from itertools import pairwise

import pytest

from events.names import Topics
from functions.controller.maintenance.dead_member_removal import (
    MOST_PENDING,
    RUNNING_LOOKS_S,
    DeadMemberRemover,
    GonePod,
    split_due,
)
from functions.factories import worker_client
from functions.runtime.telemetry import ControllerMetrics
from functions.testing.fake_clock import FakeClock
from functions.testing.memory_broker import MemoryLog

TOPICS = Topics()
GROUP = TOPICS.worker_group("tiny")
ENDED = {"terminated": {"exitCode": 137}}
LEFT = {"terminated": {"exitCode": 0}}
RUNNING = {"running": {}}


def pod(name, *states, service="tiny"):
    return {
        "metadata": {
            "name": name,
            "namespace": "models",
            "uid": f"uid-{name}",
            "labels": {"pickspin.io/service": service},
        },
        "status": {"containerStatuses": [{"name": "worker", "state": each} for each in states]},
    }


class Broken:
    def membership(self, *, client):
        raise OSError("no broker")


class Stage:
    def __init__(self):
        self.log = MemoryLog()
        self.clock = FakeClock()
        self.metrics = ControllerMetrics()
        self.is_leader = True
        self.remover = self.over(self.log)

    def over(self, log):
        return DeadMemberRemover(
            lambda: log.membership(client="controller"),
            TOPICS,
            self.clock,
            lambda: self.is_leader,
            self.metrics,
        )

    def worker(self, name):
        """A worker in the group, that then says nothing more."""
        found = self.log.group(
            group=GROUP, topics=TOPICS.of_service("tiny"), client=worker_client("tiny", name)
        )
        found.poll(0)
        return found

    def members(self):
        return {
            client.removeprefix("worker-tiny-")
            for client in self.log.groups[GROUP].clients.values()
        }

    def counted(self):
        return self.metrics.departures.labels("tiny")._value.get()


@pytest.fixture
def stage():
    return Stage()


def test_a_killed_worker_whose_pod_is_gone_leaves_at_once_and_others_stay(stage):
    stage.worker("one")
    stage.worker("two")
    stage.remover.add(pod("one", ENDED, ENDED))
    assert stage.remover.tick() == 1
    assert stage.members() == {"two"}
    assert stage.counted() == 1
    assert stage.remover.tick() == 0


def test_the_processes_of_a_pod_deleted_by_force_have_a_moment_to_end(stage):
    stage.worker("one")
    stage.remover.add(pod("one", ENDED, RUNNING))
    assert stage.remover.tick() == 0
    assert stage.members() == {"one"}
    stage.clock.advance(RUNNING_LOOKS_S[0])
    assert stage.remover.tick() == 1
    assert stage.members() == set()


def test_one_that_joined_again_before_it_died_is_met_at_a_later_look(stage):
    stage.worker("one")
    stage.remover.add(pod("one", RUNNING))
    stage.remover.tick()
    for before, after in pairwise(RUNNING_LOOKS_S):
        stage.clock.advance(after - before)
        stage.remover.tick()
        stage.worker("one")
    stage.clock.advance(60)
    assert stage.remover.tick() == 1
    stage.worker("one")
    stage.clock.advance(60)
    assert stage.remover.tick() == 0, "it has been looked for often enough"


def test_a_pod_that_was_killed_after_it_left_costs_one_look_and_removes_nobody(stage):
    stage.worker("two")
    stage.remover.add(pod("one", ENDED))
    assert stage.remover.tick() == 0
    assert stage.members() == {"two"}


def test_a_worker_that_ended_by_itself_is_not_looked_for(stage):
    remover = stage.over(Broken())
    stage.worker("one")
    remover.add(pod("one", LEFT))
    stage.remover.add(pod("one", LEFT))
    assert remover._added.empty()
    assert stage.remover.tick() == 0
    assert stage.members() == {"one"}


def test_a_pod_whose_engine_was_killed_is_looked_for(stage):
    stage.worker("one")
    stage.remover.add(pod("one", LEFT, ENDED))
    assert stage.remover.tick() == 1


def test_a_standby_removes_nobody(stage):
    stage.worker("one")
    stage.is_leader = False
    stage.remover.add(pod("one", ENDED))
    assert stage.remover.tick() == 0
    stage.is_leader = True
    assert stage.remover.tick() == 0
    assert stage.members() == {"one"}


def test_a_broker_that_is_away_costs_only_time(stage):
    remover = stage.over(Broken())
    remover.add(pod("one", ENDED))
    assert remover.tick() == 0


def test_what_waits_is_bounded(stage):
    for number in range(MOST_PENDING + 5):
        stage.remover.add(pod(f"p{number}", RUNNING))
    stage.remover.tick()
    assert len(stage.remover._pending) == MOST_PENDING


def test_looks_that_were_missed_count_as_one():
    now, later = split_due([GonePod("tiny", "one", (1.0, 2.0, 9.0))], 5.0)
    assert now == {"tiny": {"one"}}
    assert later == (GonePod("tiny", "one", (9.0,)),)


def test_a_pod_without_a_container_status_may_still_run():
    found = GonePod.from_pod(pod("one"), 10.0)
    assert found.looks_s == tuple(10.0 + each for each in RUNNING_LOOKS_S)
