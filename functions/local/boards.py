"""From the supervisor's parts to the rows of the live table."""

from functions.local.keeping import Keeper
from functions.local.processes import resident_bytes
from functions.local.scaler import Sight
from functions.local.supervisor import Life, Stack, Supervisor
from functions.local.table import Board, ModelRow, ProcessRow
from functions.local.workers import Replica
from router_model.catalogue import Catalogue


def board_of(stack: Stack, supervisor: Supervisor, recent: tuple[str, ...]) -> Board:
    """What the table shows now; nothing but a title between two lives."""
    life = supervisor.life
    if life is None:
        return Board(title="Pick and Spin: starting", processes=(), models=(), recent=recent)
    state = "starting" if supervisor.ready_s is None else "ready"
    sights = {} if life.scaler is None else life.scaler.sights
    return Board(
        title=f"Pick and Spin: {state}  ({life.broker.description})",
        processes=_processes(life),
        models=tuple(_model(sight, stack.catalogue) for sight in sights.values()),
        recent=recent,
    )


def _processes(life: Life) -> tuple[ProcessRow, ...]:
    rows: list[ProcessRow] = []
    if life.broker.child is not None:
        rows.append(_row("broker", life.broker.child.pid, "running", 0))
    if life.broker_keeper is not None:
        rows.append(_kept(life.broker_keeper))
    rows += [_kept(keeper) for keeper in life.keepers]
    rows += [] if life.pool is None else [_worker(replica) for replica in life.pool.all()]
    return tuple(rows)


def _kept(keeper: Keeper) -> ProcessRow:
    return _row(keeper.name, keeper.pid, keeper.state, keeper.restarts)


def _worker(replica: Replica) -> ProcessRow:
    state = "draining" if replica.child.is_stopping else "ready" if replica.is_ready else "starting"
    return _row(f"worker {replica.service.slug}", replica.child.pid, state, 0)


def _row(name: str, pid: int | None, state: str, restarts: int) -> ProcessRow:
    memory = 0 if pid is None else resident_bytes(pid)
    return ProcessRow(name=name, pid=pid, state=state, restarts=restarts, resident_bytes=memory)


def _model(sight: Sight, catalogue: Catalogue) -> ModelRow:
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
    )
