"""Health of a consumer loop: whether it turns, and whether its group makes progress."""

from collections.abc import Iterator
from contextlib import contextmanager

from events.names import Topics
from functions.ports.kafka import RecordLog
from functions.runtime.group_progress import ProgressWatch, run_watch
from functions.runtime.probe_server import ProbeServer, probed
from functions.runtime.settings import Settings
from functions.runtime.shutdown import LoopHealth, StopFlag
from functions.runtime.system_clock import SystemClock
from functions.runtime.telemetry import Metrics


@contextmanager
def watched_feed(
    settings: Settings, log: RecordLog, topics: Topics, metrics: Metrics, stop: StopFlag
) -> Iterator[StopFlag]:
    """While inside, the router's group is watched; /healthz and /readyz tell, where the settings want probes.

    Gives the flag for the pump to look at.
    """
    group, parts = topics.router_group, LoopHealth()
    (looked_at,) = parts.watch(stop, 1)
    watch = ProgressWatch(
        lambda: log.lag_reader(client="router-progress"),
        {group: (topics.requests,)},
        stalled_s=settings.broker.stalled_s,
        clock=SystemClock(),
        metrics=metrics,
    )
    probes = ProbeServer(
        is_ready=lambda: parts.is_live() and watch.is_moving(group),
        is_live=parts.is_live,
        registry=metrics.registry,
    )
    with run_watch(watch), probed(probes, settings.probes):
        yield looked_at
