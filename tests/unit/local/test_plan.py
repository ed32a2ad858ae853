"""How long each process may take to end, and in which order they do."""

from functions.local.process_list import DOORS, STOP_ORDER, list_kept_processes, stop_s
from functions.runtime.settings import IngressSettings, Settings


def test_the_doors_have_the_time_that_callers_were_promised() -> None:
    for drain_s in (1.0, 20.0, 300.0):
        settings = Settings(ingress=IngressSettings(drain_s=drain_s))
        assert stop_s(DOORS, settings) > drain_s + 4.0
        assert stop_s("router", settings) < 10.0


def test_every_process_stops_once() -> None:
    stopped = [DOORS, *(name for stage in STOP_ORDER for name in stage)]
    assert sorted(stopped) == sorted(list_kept_processes(Settings()))
