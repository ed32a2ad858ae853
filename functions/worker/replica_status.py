"""Publishes the replica's status: at every change, and every two seconds."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from events import builders
from events.names import BreakerState, ReplicaState
from events.payloads import ServerInfo, StatusData
from functions.ports.clock import Clock
from functions.worker.replica_stats import ReplicaStats
from functions.worker.reply_producer import ReplyProducer
from router_model.catalogue.model import Service

REPEAT_S: Final = 2.0
_LOADING_REPEAT_S: Final = 0.5
_MOST_PROGRESS: Final = 0.95
"""Progress by elapsed time never says more than this before the model is really there."""


class StatusReporter:
    """Owned by the event loop. `expected_s`: how long the start should take."""

    def __init__(
        self,
        *,
        service: Service,
        replica: str,
        publisher: ReplyProducer,
        clock: Clock,
        measured: ReplicaStats,
        expected_s: float,
    ) -> None:
        self._service = service
        self._replica = replica
        self._publisher = publisher
        self._clock = clock
        self._measured = measured
        self._expected_s = max(0.1, expected_s)
        self.state = ReplicaState.STARTING
        self.message: str | None = None
        self.failed_starts = 0
        self.breaker = BreakerState.CLOSED
        self.retry_at: datetime | None = None
        self.in_flight: Callable[[], int] = lambda: 0
        self.server: ServerInfo | None = None

    def become(self, state: ReplicaState, message: str | None = None) -> None:
        """Changes the state and publishes it at once."""
        self.state, self.message = state, message
        self.publish()

    def rest(self, breaker: BreakerState, left_s: float) -> None:
        """Publishes the state of the breaker, once the model can be called."""
        if self.state is not ReplicaState.READY:
            return
        self.breaker = breaker
        is_open = breaker is BreakerState.OPEN
        self.retry_at = self._clock.now() + timedelta(seconds=left_s) if is_open else None
        self.message = "most of its last calls failed" if is_open else None
        self.publish()

    async def repeat(self) -> None:
        """Publishes the status regularly, until cancelled."""
        while True:
            is_coming = self.state in {ReplicaState.LOADING, ReplicaState.WARMING}
            await asyncio.sleep(_LOADING_REPEAT_S if is_coming else REPEAT_S)
            self.publish()

    def publish(self) -> None:
        """Appends one status event, without waiting."""
        event = builders.build_status(self.data())
        self._publisher.send(
            builders.status_outgoing(event, topics=self._publisher.topics, replica=self._replica)
        )

    def data(self) -> StatusData:
        """The current status."""
        now = self._clock.now()
        elapsed_s = (now - self._measured.started_at).total_seconds()
        progress: float | None = None
        eta_s: float | None = None
        if self.state in {ReplicaState.STARTING, ReplicaState.LOADING, ReplicaState.WARMING}:
            progress = round(min(_MOST_PROGRESS, max(0.0, elapsed_s / self._expected_s)), 3)
            eta_s = round(max(0.0, self._expected_s - elapsed_s), 3)
        elif self.state is ReplicaState.READY:
            progress, eta_s = 1.0, 0.0
        return StatusData(
            service=self._service.slug,
            replica=self._replica,
            state=self.state,
            at=now,
            progress=progress,
            eta_s=eta_s,
            in_flight=self.in_flight(),
            concurrency=self._service.concurrency,
            tokens_per_s=self._measured.tokens_per_s,
            service_s=self._measured.service_s,
            message=self.message,
            failed_starts=self.failed_starts,
            breaker=self.breaker,
            retry_at=self.retry_at,
            server=self.server,
        )
