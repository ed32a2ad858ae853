"""From the supervisor's parts to the rows of the live table."""

from collections.abc import Mapping, Sequence
from typing import Final

from functions.local.child_process import children_by_parent, tree_bytes
from functions.local.live_table import ModelRow, ProcessRow, TableContent
from functions.local.local_scaler import LastRound
from functions.local.supervisor import Stack, StackLife, Supervisor
from functions.local.worker_pool import Replica
from functions.ports.clock import Clock
from router_model.catalogue.model import Catalogue

LOOK_S: Final = 3.0


class ProcessTrees:
    """Who started whom, looked at anew only every few seconds: it reads a file of each process of the machine."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._looked_s = -LOOK_S
        self._children: Mapping[int, Sequence[int]] = {}

    def children(self) -> Mapping[int, Sequence[int]]:
        """Processes by the one that started them."""
        now_s = self._clock.monotonic_s()
        if now_s - self._looked_s >= LOOK_S:
            self._looked_s, self._children = now_s, children_by_parent()
        return self._children


def read_table_content(
    stack: Stack, supervisor: Supervisor, recent: tuple[str, ...], trees: ProcessTrees
) -> TableContent:
    """What the table shows now; nothing but a title between two lives."""
    life = supervisor.life
    if life is None:
        return TableContent(title="Pick and Spin: starting", processes=(), models=(), recent=recent)
    state = "starting" if supervisor.ready_s is None else "ready"
    sights = {} if life.scaler is None else life.scaler.sights
    return TableContent(
        title=f"Pick and Spin: {state}  (broker at {life.broker.bootstrap})",
        processes=_processes(life, trees.children()),
        models=tuple(_model(sight, stack.catalogue) for sight in sights.values()),
        recent=recent,
    )


def _processes(life: StackLife, children: Mapping[int, Sequence[int]]) -> tuple[ProcessRow, ...]:
    def row(name: str, pid: int | None, state: str, restarts: int) -> ProcessRow:
        memory = 0 if pid is None else tree_bytes(pid, children)
        return ProcessRow(name=name, pid=pid, state=state, restarts=restarts, resident_bytes=memory)

    rows: list[ProcessRow] = []
    if life.broker.child is not None:
        rows.append(row("broker", life.broker.child.pid, "running", 0))
    kept = [life.broker_keeper] if life.broker_keeper is not None else []
    rows += [row(each.name, each.pid, each.state, each.restarts) for each in (*kept, *life.keepers)]
    replicas = [] if life.pool is None else life.pool.all()
    return (*rows, *(row(f"worker {r.service.slug}", r.child.pid, _state(r), 0) for r in replicas))


def _state(replica: Replica) -> str:
    if replica.child.is_stopping:
        return "draining"
    return "ready" if replica.is_ready else "starting"


def _model(sight: LastRound, catalogue: Catalogue) -> ModelRow:
    model = catalogue.model(sight.service.model)
    return ModelRow(
        slug=sight.service.slug,
        state=sight.view.state.value,
        replicas=sight.replicas,
        desired=sight.decision.replicas,
        lag=sight.lag,
        in_flight=sight.view.in_flight,
        eta_s=sight.view.eta_s,
        rate_per_s=sight.rate_per_s,
        is_simulated=model is not None and model.simulated,
        is_late=sight.view.is_late,
    )
