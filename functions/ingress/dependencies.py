"""What every API of the ingress needs, passed in once by `main` (or a test)."""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Final, ParamSpec, TypeVar

from events.names import Topics
from functions.ingress.api_keys import ApiKeys
from functions.ingress.body_turns import TurnLimits, Turns
from functions.ingress.broker_room import BrokerRoom
from functions.ingress.held_bodies import HeldBody
from functions.ingress.open_calls import OpenCalls
from functions.ingress.pending_requests import Waiters
from functions.ingress.readiness import Health
from functions.ingress.row_watch import RowWatch
from functions.ingress.tenant_shares import SharedRoom
from functions.ports.blobs import BlobStore
from functions.ports.clock import Clock
from functions.ports.kafka import RecordAppender
from functions.ports.store import Mark, Store
from functions.runtime.reply_partitions import ReplyPartitions
from functions.runtime.settings import Settings
from functions.runtime.telemetry import Metrics
from router_model.catalogue.model import Catalogue
from router_model.service_registry import Registry, ServiceView

BODIES_AT_ONCE: Final = 4
"""So many of the largest bodies have room at once, whatever the settings say: more than one tenant gets on."""
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependencies:
    """Adapters and facts of one ingress process.

    `registry` returns the newest registry. `executor` runs the store's and the blob store's blocking calls.
    `instance` names this replica; `epoch` names this incarnation: replies to another one are dropped.
    `entropy(n)` returns n random bytes.
    """

    settings: Settings
    topics: Topics
    clock: Clock
    catalogue: Catalogue
    registry: Callable[[], Registry]
    appender: RecordAppender
    waiters: Waiters
    broker_room: BrokerRoom
    store: Store
    blobs: BlobStore
    executor: Executor
    keys: ApiKeys
    health: Health
    metrics: Metrics
    instance: str
    epoch: str
    entropy: Callable[[int], bytes]
    calls: OpenCalls = field(default_factory=OpenCalls)
    rows: RowWatch = field(default_factory=RowWatch)
    turns: Turns = field(default_factory=Turns)
    bodies: SharedRoom = field(default_factory=SharedRoom)
    uploads: SharedRoom = field(default_factory=SharedRoom)
    event_streams: Counter[str] = field(default_factory=Counter)
    """How many streams of events each tenant follows."""
    reply_partitions: ReplyPartitions

    async def offload(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Runs a blocking call in the executor."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.executor, lambda: work(*args, **kwargs))

    async def wait_for_change(
        self, request_id: str, is_news: Callable[[Mark | None], bool], timeout_s: float
    ) -> bool:
        """Waits for news of a request in the store; False when `timeout_s` passed. See `RowWatch`."""

        async def ask(ids: Sequence[str]) -> Mapping[str, Mark]:
            return await self.offload(self.store.marks, ids)

        return await self.rows.wait(ask, request_id, is_news, timeout_s)

    async def run_in_turn(self, tenant: str, body: bytes, work: Callable[[], T]) -> T:
        """Result of `work` on a body: at once, or, if the body is large, at the tenant's turn
        (`Turns`).

        Bodies above `big_body_bytes` are worked on in the executor.
        """
        settings = self.settings.ingress
        has_others = self.keys.has_several_tenants
        limits = TurnLimits(
            large_bytes=settings.large_body_bytes,
            loop_share=settings.large_body_share,
            bytes_s=settings.large_body_bytes_s if has_others else math.inf,
            most=settings.large_body_waiting,
            wait_s=settings.body_read_s,
        )

        async def run() -> T:
            return await self.offload(work) if len(body) > settings.big_body_bytes else work()

        return await self.turns.run(limits, tenant, len(body), run)

    def hold_body(self, tenant: str) -> HeldBody:
        """What is to hold the body of a call of this tenant."""
        room, share = self.settings.ingress.big_bodies_bytes, self.tenant_share
        most = max(1, room // BODIES_AT_ONCE)
        return HeldBody(
            lambda size: self.bodies.enter(tenant, min(size, most), room=room, share=share),
            lambda size: self.bodies.leave(tenant, min(size, most)),
        )

    def view(self, service: str | None) -> ServiceView | None:
        """What is known of a service now; None where none is named."""
        return None if service is None else self.registry().view(service, self.clock.now())

    @property
    def tenant_share(self) -> float:
        """The share of common places that one tenant may hold; all of them where there is only one."""
        return self.settings.ingress.tenant_share if self.keys.has_several_tenants else 1.0
