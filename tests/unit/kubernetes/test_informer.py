import threading

import pytest

from functions.kubernetes import informer as informing
from functions.kubernetes.informer import ABSENT_S, RESYNC_S, Informer
from functions.ports.kubernetes import PODS, KubernetesFailed, Selection, get_name
from functions.runtime.backoff import Backoff
from functions.runtime.shutdown import StopFlag
from functions.runtime.system_clock import SystemClock
from functions.testing.fake_clock import FakeClock
from functions.testing.memory_kubernetes import MemoryKubernetes

PODS_HERE = Selection(resource=PODS, namespace="models")


def pod(name, **labels):
    return {"metadata": {"name": name, "labels": labels}}


class Followed:
    """An informer in a thread of its own; `told` is what its listener heard."""

    def __init__(self, api, selection=PODS_HERE, clock=None):
        self.api = api
        self.told = []
        self.stop = StopFlag()
        self._heard = threading.Condition()
        self.informer = Informer(api, selection, clock or SystemClock(), self._hear)
        self._thread = threading.Thread(target=self.informer.run, args=(self.stop,), daemon=True)

    def _hear(self, found):
        with self._heard:
            self.told.append(get_name(found))
            self._heard.notify_all()

    def __enter__(self):
        self._thread.start()
        assert self.informer._synced.wait(5)
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.api.disconnect()
        self._thread.join(5)
        assert not self._thread.is_alive()

    def until(self, condition):
        with self._heard:
            assert self._heard.wait_for(condition, 5)

    def names(self):
        return {get_name(each) for each in self.informer.all()}


@pytest.fixture
def api(monkeypatch):
    monkeypatch.setattr(informing, "BACKOFF", Backoff(0.001, 10.0))
    found = MemoryKubernetes()
    found.create(PODS, "models", pod("a"))
    return found


def lists(api):
    return [call for call in api.calls if call[0] == "list"]


def test_changes_arrive_without_listing_again(api):
    with Followed(api) as followed:
        api.create(PODS, "models", pod("b"))
        followed.until(lambda: followed.names() == {"a", "b"})
        api.delete(PODS, "models", "a", "")
        followed.until(lambda: followed.names() == {"b"})
    assert len(lists(api)) == 1


def test_a_restart_of_the_server_goes_on_where_the_watch_was(api):
    with Followed(api) as followed:
        api.fail_next("watch", KubernetesFailed(0, "Unreachable"), times=5)
        api.disconnect()
        api.create(PODS, "models", pod("b"))
        followed.until(lambda: followed.names() == {"a", "b"})
    assert len(lists(api)) == 1


def test_a_version_that_is_too_old_makes_it_list_again_and_tells_what_vanished(api):
    with Followed(api) as followed:
        api.create(PODS, "models", pod("b"))
        followed.until(lambda: "b" in followed.names())
        api.fail_next("watch", KubernetesFailed(410, "Expired"))
        followed.told.clear()
        with api._condition:  # both happen while no watch is open
            api.disconnect()
            api.delete(PODS, "models", "a", "")
            api.create(PODS, "models", pod("c"))
            api.compact()
        followed.until(lambda: followed.names() == {"b", "c"} and "a" in followed.told)
    assert len(lists(api)) >= 2


def test_a_watch_that_becomes_too_old_in_the_middle_is_survived(api):
    with Followed(api) as followed, api._condition:
        api.create(PODS, "models", pod("b"))
        api.compact()
    with Followed(api) as followed:
        followed.until(lambda: followed.names() == {"a", "b"})


def test_only_what_is_selected_is_followed(api):
    selection = Selection(resource=PODS, namespace="models", labels="model")
    with Followed(api, selection) as followed:
        api.create(PODS, "models", pod("other"))
        api.create(PODS, "elsewhere", pod("far", model="x"))
        api.create(PODS, "models", pod("mine", model="x"))
        followed.until(lambda: followed.names() == {"mine"})


def test_a_kind_that_the_cluster_does_not_know_blocks_nobody(api):
    informer = Informer(api, PODS_HERE, FakeClock(), lambda _: None)
    absent = KubernetesFailed(404, "NotFound")
    assert informer._after(absent) == ABSENT_S
    assert informer.is_synced()


def test_failures_wait_longer_each_time_but_not_for_ever(api):
    informer = Informer(api, PODS_HERE, FakeClock(), lambda _: None)
    waits = [informer._after(KubernetesFailed(0, "Unreachable")) for _ in range(40)]
    assert waits[0] < waits[12]
    assert max(waits) <= informing.BACKOFF.most_s


def test_an_older_answer_does_not_replace_what_was_seen(api):
    informer = Informer(api, PODS_HERE, FakeClock(), lambda _: None)
    informer.relist()
    old = informer.get("a")
    new = api.patch(PODS, "models", "a", {"metadata": {"labels": {"x": "y"}}})
    informer.learn(new)
    informer.learn(old)
    assert informer.get("a") == new


def test_everything_is_told_again_now_and_then(api, monkeypatch):
    monkeypatch.setattr(informing, "WATCH_S", 0.0)
    clock, told = FakeClock(), []
    informer = Informer(api, PODS_HERE, clock, lambda found: told.append(get_name(found)))
    informer.follow(StopFlag())
    informer.follow(StopFlag())
    assert told == ["a"]
    clock.advance(RESYNC_S)
    informer.follow(StopFlag())
    assert told == ["a", "a"]
