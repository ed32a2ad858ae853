"""While a model loads nobody is told that it is ready now, however long it takes."""

from datetime import UTC, datetime

import pytest

from events.names import ReplicaState
from events.payloads import StatusData
from router_model.service_registry import LATE, LEAST_ETA_S, SCALER, Registry, ServiceView

NOW = datetime(2026, 12, 1, tzinfo=UTC)


def status(replica: str, state: ReplicaState, eta_s: float | None) -> StatusData:
    return StatusData(service="m", replica=replica, state=state, at=NOW, eta_s=eta_s, concurrency=1)


def view_of(*statuses: StatusData) -> ServiceView:
    return Registry(entries={(one.service, one.replica): one for one in statuses}).view("m", NOW)


@pytest.mark.parametrize(
    "state", [ReplicaState.STARTING, ReplicaState.LOADING, ReplicaState.WARMING]
)
def test_who_loads_is_never_ready_now(state: ReplicaState) -> None:
    found = view_of(status("1", state, 0.0))

    assert (found.eta_s, found.is_late, found.message) == (LEAST_ETA_S, True, LATE)


def test_the_scalers_word_counts_before_a_replica_speaks() -> None:
    found = view_of(status(SCALER, ReplicaState.STARTING, 0.0))

    assert (found.eta_s, found.is_late) == (LEAST_ETA_S, True)


def test_in_time_it_is_what_is_left() -> None:
    found = view_of(status("1", ReplicaState.LOADING, 2.5))

    assert (found.eta_s, found.is_late, found.message) == (2.5, False, None)


def test_a_ready_one_is_ready_now() -> None:
    found = view_of(status("1", ReplicaState.READY, 0.0), status("2", ReplicaState.LOADING, 0.0))

    assert (found.eta_s, found.is_late) == (0.0, False)
