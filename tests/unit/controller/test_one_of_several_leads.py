from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.controller.actions import Write
from functions.controller.api_writer import ApiWriter, NotLeading
from functions.controller.main import build_lease_settings
from functions.kubernetes.leader_election import LeaderElection, LeaseSettings
from functions.ports.kubernetes import LEASES, PODS, KubernetesFailed
from functions.runtime.errors import StartupFailed
from functions.runtime.settings import ControllerSettings, Settings
from functions.runtime.shutdown import StopFlag
from functions.runtime.telemetry import ControllerMetrics
from functions.testing.fake_clock import FakeClock
from functions.testing.memory_kubernetes import MemoryKubernetes

UNREACHABLE = KubernetesFailed(0, "Unreachable")


def candidate(api, clock, name):
    terms = LeaseSettings(namespace="models", name="ps-controller", identity=name)
    return LeaderElection(api, terms, clock)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def api():
    return MemoryKubernetes()


@pytest.fixture
def pair(api, clock):
    return candidate(api, clock, "a"), candidate(api, clock, "b")


def steps(clock, who, seconds, every=2):
    for _ in range(int(seconds / every)):
        clock.advance(every)
        for each in who:
            each.step()


def test_the_first_one_leads_and_the_other_waits(pair, clock):
    a, b = pair
    a.step()
    b.step()
    steps(clock, pair, 120)
    assert (a.is_leader(), b.is_leader()) == (True, False)


def test_a_standby_takes_over_when_the_lease_runs_out(pair, clock):
    a, b = pair
    a.step()
    b.step()
    steps(clock, [b], 14)
    assert not b.is_leader()
    steps(clock, [b], 4)
    assert b.is_leader()
    a.step()
    assert not a.is_leader()


def test_a_leader_that_cannot_renew_stops_before_another_may_begin(pair, api, clock):
    a, b = pair
    a.step()
    b.step()
    api.fail_next("get", UNREACHABLE, times=100)
    for _ in range(5):
        clock.advance(2)
        a.step()
    assert not a.is_leader(), "renewal ended 10 s ago; the lease itself lasts 15 s"


def test_a_leader_that_stops_lets_go_at_once(pair, clock):
    a, b = pair
    a.step()
    b.step()
    a.release()
    assert not a.is_leader()
    clock.advance(2)
    b.step()
    assert b.is_leader()


def test_running_tells_gain_and_loss(api, clock):
    told, stop = [], StopFlag()
    leadership = candidate(api, clock, "a")

    def on_change(is_leader):
        told.append(is_leader)
        stop.set()

    leadership.run(stop, on_change)
    assert told == [True, False]
    assert api.get(LEASES, "models", "ps-controller")["spec"]["holderIdentity"] == ""


def test_two_that_begin_together_do_not_both_lead(api, clock):
    a, b = candidate(api, clock, "a"), candidate(api, clock, "b")
    a._look(clock.monotonic_s())
    b._look(clock.monotonic_s())
    a._write("create")
    with pytest.raises(KubernetesFailed) as refused:
        b._write("create")
    assert refused.value.reason == "AlreadyExists"


def test_a_takeover_that_comes_second_is_refused(pair, api, clock):
    a, b = pair
    a.step()
    c = candidate(api, clock, "c")
    for each in (b, c):
        each._look(clock.monotonic_s())
    clock.advance(16)
    for each in (b, c):
        each._look(clock.monotonic_s())
    b._write("take")
    with pytest.raises(KubernetesFailed) as refused:
        c._write("take")
    assert refused.value.is_conflict


def test_transitions_are_counted(pair, api, clock):
    a, b = pair
    a.step()
    a.step()
    a.release()
    b.step()
    spec = api.get(LEASES, "models", "ps-controller")["spec"]
    assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("b", 1)
    assert datetime.fromisoformat(spec["renewTime"]).tzinfo == UTC


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.floats(0.1, 6), st.booleans()), min_size=1, max_size=60
    )
)
def test_two_never_lead_at_once_whatever_fails(moves):
    clock, api = FakeClock(), MemoryKubernetes()
    who = {name: candidate(api, clock, name) for name in "abc"}
    for name, seconds, fails in moves:
        clock.advance(seconds)
        if fails:
            api.fail_next("get", UNREACHABLE)
        who[name].step()
        assert sum(each.is_leader() for each in who.values()) <= 1


def test_who_does_not_lead_writes_nothing(api, clock):
    api.create(PODS, "models", {"metadata": {"name": "p"}})
    writer = ApiWriter(api, clock, lambda: False, ControllerMetrics())
    before = len(api.writes())
    write = Write(verb="delete", resource=PODS, namespace="models", name="p", body={}, uid="uid-1")
    with pytest.raises(NotLeading):
        writer.carry_out([write])
    assert len(api.writes()) == before


def test_times_that_do_not_fit_are_refused_at_start():
    wrong = Settings(controller=ControllerSettings(lease_s=5, renew_s=10))
    with pytest.raises(StartupFailed, match="RENEW_S"):
        build_lease_settings(wrong)
