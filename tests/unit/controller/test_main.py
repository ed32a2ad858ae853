"""The whole controller over an API in memory: leads, reconciles, tells who holds the topic, lets go."""

import json
import threading
import time
import urllib.error
import urllib.request

import pytest

from events import builders
from events.codecs import kafka_codec
from events.names import REVISION, Topics
from functions.controller import main
from functions.controller.main import Controller, ControllerDependencies, open_dependencies
from functions.factories import worker_client
from functions.kubernetes.labels import PAUSED_SCALE_IN
from functions.ports.kubernetes import LEASES, PODS, SCALED_OBJECTS
from functions.runtime.backoff import Backoff
from functions.runtime.errors import StartupFailed
from functions.runtime.settings import ControllerSettings, Settings
from functions.runtime.shutdown import StopFlag
from functions.runtime.system_clock import SystemClock
from functions.runtime.telemetry import ControllerMetrics
from functions.testing.memory_broker import MemoryLog
from router_model.catalogue.loader import dump_catalogue
from router_model.catalogue.model import Backend, Catalogue, Model, Service, WarmHours, Weights
from tests.unit.controller.conftest import NAMESPACE, RELEASE

FORCED = "autoscaling.keda.sh/force-activation"
ALWAYS = WarmHours(start="* * * * *", end="0 0 30 2 *")
TOPICS = Topics()


class NoMembers:
    """Commits straight into the log's groups."""

    def __init__(self, log):
        self.log = log
        self.committed = {}

    def commit(self, group, offsets):
        self.committed[group] = dict(offsets)
        return True


def catalogue(**service):
    model = Model(id="tiny", weights=Weights(url="http://model/v1"), simulated=True)
    return Catalogue(
        models=(model,),
        services=(Service(model="tiny", slug="tiny", backend=Backend(kind="fake"), **service),),
    )


class Process:
    def __init__(self, knative, **service):
        self.log = MemoryLog()
        self.stop = StopFlag()
        self.metrics = ControllerMetrics()
        self.committer = NoMembers(self.log)
        settings = Settings(
            controller=ControllerSettings(
                namespace=NAMESPACE, release=RELEASE, identity="me", port=0, tick_s=0.01,
                lease_s=0.5, renew_s=0.4, retry_s=0.02,
            )
        )  # fmt: skip
        dependencies = ControllerDependencies(
            catalogue=catalogue(**service), log=self.log, committer=self.committer, history=None
        )
        self.controller = Controller(
            settings, knative.api, dependencies, SystemClock(), self.metrics
        )
        self.knative = knative
        self.status = None
        self._thread = threading.Thread(target=self._run)

    def _run(self):
        self.status = self.controller.run(self.stop)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.knative.api.disconnect()
        self._thread.join(10)
        assert not self._thread.is_alive()

    def named(self):
        events = [kafka_codec.from_record(each) for each in self.log.records(TOPICS.control)]
        return [builders.parse_revision(each).revision for each in events if each.type == REVISION]


def until(condition, patience_s=15.0):
    deadline = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.005)


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr("functions.controller.maintenance.maintenance_loop.SLOW_TURN_S", 0.01)
    monkeypatch.setattr("functions.controller.maintenance.maintenance_loop.PREWARM_S", 0.01)


def boot(process, knative, name):
    until(lambda: knative.condition(name, "Ready"))
    knative.serve(name)
    knative.replicas(name, 1, 1)
    until(lambda: knative.scaled(name))


def test_a_revision_is_brought_up_named_and_held_warm(knative):
    name = knative.revision()
    with Process(knative, warm_hours=(ALWAYS,)) as process:
        boot(process, knative, name)
        assert process.named() == []
        knative.route(name)
        until(lambda: process.named() == [name])
        until(lambda: knative.scaled(name)["metadata"]["annotations"].get(FORCED) == "true")
        until(lambda: TOPICS.worker_group("tiny") in process.committer.committed)
        assert process.metrics.is_leader._value.get() == 1
    assert process.status == 0
    lease = knative.api.get(LEASES, NAMESPACE, f"{RELEASE}-controller")
    assert lease["spec"]["holderIdentity"] == ""


def test_keda_is_made_to_look_again_at_a_trigger_that_it_has_not_named(knative, monkeypatch):
    workaround = "functions.controller.maintenance.keda_push_workaround"
    monkeypatch.setattr(f"{workaround}.BACKOFF", Backoff(0.01, 60.0))
    knative.scaling(
        json.dumps({"triggers": [{"type": "external-push", "metadata": {"service": "tiny"}}]})
    )
    name = knative.revision()
    status = {"conditions": [], "externalMetricNames": ["s1-kafka"]}
    with Process(knative) as process:
        boot(process, knative, name)
        knative.change(SCALED_OBJECTS, name, lambda found: found.update(status=status))
        until(lambda: PAUSED_SCALE_IN in knative.scaled(name)["metadata"]["annotations"])
    assert process.status == 0


def test_a_crashing_pod_is_replaced_within_seconds(knative):
    name = knative.revision()
    labels = {"pickspin.io/service": "tiny", "serving.knative.dev/revision": name}
    state = {"waiting": {"reason": "CrashLoopBackOff"}}
    with Process(knative) as process:
        boot(process, knative, name)
        began_s = time.monotonic()
        body = {"metadata": {"name": "p", "labels": labels}}
        knative.api.create(
            PODS, NAMESPACE, body | {"status": {"containerStatuses": [{"state": state}]}}
        )
        until(lambda: knative.find(PODS, "p") is None)
        assert time.monotonic() - began_s < 5, "the paper claims under 5 s"


def test_a_standby_writes_nothing_and_takes_over(knative):
    name = knative.revision()
    other = {"holderIdentity": "other", "renewTime": "2026-01-01T00:00:00.000000Z"}
    lease = {"metadata": {"name": f"{RELEASE}-controller"}, "spec": other}
    knative.api.create(LEASES, NAMESPACE, lease)
    before = len(knative.api.writes())
    with Process(knative) as process:
        until(process.controller.is_ready)
        assert not process.controller.leadership.is_leader()
        assert len(knative.api.writes()) == before
        until(process.controller.leadership.is_leader)
        until(lambda: knative.condition(name, "Ready"))


def test_the_lease_lost_ends_all_writing(knative):
    name = knative.revision()
    with Process(knative) as process:
        boot(process, knative, name)

        def take(found):
            found["spec"] |= {"holderIdentity": "other", "renewTime": "2027-01-01T00:00:00Z"}

        knative.change(LEASES, f"{RELEASE}-controller", take)
        until(lambda: not process.controller.leadership.is_leader())
        before = knative.scaled(name)
        knative.change(SCALED_OBJECTS, name, lambda found: found["spec"].update(maxReplicaCount=99))
        until(lambda: process.metrics.reconciles.labels("standby")._value.get() > 0)
        assert knative.scaled(name)["spec"] != before["spec"]


def test_it_answers_probes(knative, monkeypatch):
    ports = []
    real = main.ProbeServer.start

    async def start(self, host, port):
        ports.append(await real(self, host, port))
        return ports[-1]

    monkeypatch.setattr(main.ProbeServer, "start", start)
    with Process(knative) as process:
        until(lambda: ports and process.controller.is_ready())
        for path in ("ready", "live", "metrics"):
            with urllib.request.urlopen(f"http://127.0.0.1:{ports[0]}/{path}") as answer:
                assert answer.status == 200
        monkeypatch.setattr(process.controller.pods, "is_synced", lambda: False)
        with pytest.raises(urllib.error.HTTPError):
            urllib.request.urlopen(f"http://127.0.0.1:{ports[0]}/readyz")


def test_habits_need_the_store(tmp_path):
    path = tmp_path / "catalogue.yaml"
    path.write_text(dump_catalogue(catalogue(warm_by_habit=True)), encoding="utf-8")
    with pytest.raises(StartupFailed, match="STORE_URL"):
        open_dependencies(Settings(catalogue=str(path)))


def test_a_model_pod_that_is_gone_leaves_its_group(knative):
    name = "tiny-1-pod"
    labels = {"pickspin.io/service": "tiny", "app.kubernetes.io/instance": RELEASE}
    ended = [{"name": "worker", "state": {"terminated": {"exitCode": 137}}}]
    body = {"metadata": {"name": name, "labels": labels}, "status": {"containerStatuses": ended}}
    with Process(knative) as process:
        group = TOPICS.worker_group("tiny")
        process.log.group(
            group=group, topics=TOPICS.of_service("tiny"), client=worker_client("tiny", name)
        ).poll(0)
        knative.api.create(PODS, NAMESPACE, body)
        until(lambda: process.controller.pods.get(name))
        until(lambda: process.metrics.is_leader._value.get() == 1)
        assert process.log.groups[group].clients
        found = process.controller.pods.get(name)
        knative.api.delete(PODS, NAMESPACE, name, found["metadata"]["uid"])
        until(lambda: not process.log.groups[group].clients)
