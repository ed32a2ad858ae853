"""The delivery loop of callbacks.

It leases due deliveries from the store, sends them and records the outcome.

Attempts are bounded for each tenant, target and host, and tenants take turns.
So receivers that hang delay only their own tenant.
An error over one delivery counts as a failed attempt of that delivery.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from events import builders, names
from events.codecs.kafka_codec import outgoing_record
from events.event import Outgoing
from events.names import Topics
from events.requests import Origin
from functions.callbacks.retry_schedule import (
    AttemptOutcome,
    Delivered,
    GivenUp,
    TryAgain,
    choose_step,
)
from functions.callbacks.signing import sign_headers
from functions.callbacks.url_policy import (
    CallbackPolicy,
    ParsedTarget,
    judge_address,
    judge_addresses,
    judge_url,
)
from functions.callbacks.webhook_client import Resolver, WebhookClient, WebhookRequest
from functions.ports.clock import Clock
from functions.ports.kafka import RecordAppender
from functions.ports.store import CallbackStore, CallbackTarget, Delivery
from functions.runtime.errors import ApiError, AppendFailed, StoreFailed
from functions.runtime.shutdown import StopFlag
from functions.runtime.telemetry import Metrics

PUT_BACK_S: Final = 1.0
MAX_LINES: Final = 10_000
RESOLVE_S: Final = 5.0
"""Longest wait for a name's addresses."""
LEASE_SPARE_S: Final = 5.0
POLL_S: Final = 0.25
FAULT_S: Final = 5.0
"""Pause after a round that failed for a reason of our own."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryLimits:
    """`delays`: seconds before each attempt. `attempt_timeout_s`: bound of one.

    Parallel attempts: `concurrency` in all, `per_tenant`, `per_target`, `per_host`. The last one
    keeps many tenants from aiming at one host. One tenant has at most three quarters of a host's.
    """

    delays: tuple[float, ...]
    attempt_timeout_s: float
    concurrency: int
    per_tenant: int
    per_target: int
    per_host: int

    def may_look_up(self, tenant: int) -> bool:
        """Whether a tenant with `tenant` open look-ups may start another.

        A resolver has few threads, and names may hang for long.
        """
        return tenant < max(1, self.per_tenant // 2)

    def may_send(self, host: int, tenant: int) -> bool:
        """One more attempt to a host that has `host` out, `tenant` of them of the same tenant."""
        return host < self.per_host and tenant < max(1, self.per_host * 3 // 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryDependencies:
    """What the loop is given. `chance` returns a random number in [0, 1)."""

    store: CallbackStore
    client: WebhookClient
    resolve: Resolver
    appender: RecordAppender
    clock: Clock
    topics: Topics
    policy: CallbackPolicy
    metrics: Metrics
    chance: Callable[[], float]


Share = tuple[str, str]
"""A host and a tenant."""


class WaitingLines:
    """Deliveries that found no place, by what they wait for: who comes later waits longer, so that few are looked at in
    vain. What is forgotten here is only looked at too soon.
    """

    def __init__(self) -> None:
        self._lines: dict[str, Share] = {}
        self._lengths: Counter[Share] = Counter()

    def join(self, delivery_id: str, share: Share, *, slots: int) -> float:
        """Seconds until it is worth another look."""
        if len(self._lines) >= MAX_LINES:
            self._lines.clear()
            self._lengths.clear()
        wait_s = PUT_BACK_S * (1 + self._lengths[share] / slots)
        self._lines[delivery_id] = share
        self._lengths[share] += 1
        return wait_s

    def leave(self, delivery_id: str) -> None:
        """It is looked at now; others than those that wait are fine."""
        share = self._lines.pop(delivery_id, None)
        if share is not None:
            self._lengths[share] -= 1
            self._lengths += Counter()


class DeliveryWorker:
    """Runs in one event loop. Killed after a POST and before its mark, it sends the same webhook id again."""

    def __init__(self, dependencies: DeliveryDependencies, limits: DeliveryLimits) -> None:
        self._deps = dependencies
        self._limits = limits
        self._running: set[asyncio.Task[None]] = set()
        self._hosts: Counter[str] = Counter()
        self._shares: Counter[tuple[str, str]] = Counter()
        self._lines = WaitingLines()
        self._lookups: Counter[str] = Counter()
        self._running_lookups: set[asyncio.Future[Sequence[str]]] = set()
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Something new is due, or there is room again. Only from the loop's own thread."""
        self._wake.set()

    async def run(self, stop: StopFlag) -> None:
        """Delivers until `stop`; what is out then is finished or cut by its own timeout."""
        while not stop.is_set():
            self._wake.clear()
            try:
                started = await self.start_due()
            except StoreFailed as error:
                log.warning("store out of reach", extra={"reason": str(error)})
                started = 0
            except Exception:
                # The loop boundary: the next round may go better, and those that are out are not cut.
                self._deps.metrics.failed_rounds.labels(part="deliveries").inc()
                log.exception("round failed")
                await asyncio.to_thread(stop.wait, FAULT_S)
                continue
            if started == 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_S):
                        await self._wake.wait()
        await self.finish()
        for lookup in self._running_lookups:
            # Nobody waits for it any more.
            lookup.cancel()

    async def start_due(self) -> int:
        """Takes what is due, as far as there is room, and starts sending; returns how many."""
        room = self._limits.concurrency - len(self._running)
        if room <= 0:
            await asyncio.wait(self._running, return_when=asyncio.FIRST_COMPLETED)
            return 1
        due = await asyncio.to_thread(
            self._deps.store.due_deliveries,
            self._deps.clock.now(),
            room,
            lease_s=RESOLVE_S + self._limits.attempt_timeout_s + LEASE_SPARE_S,
            per_target=self._limits.per_target,
            per_tenant=self._limits.per_tenant,
        )
        for delivery in due:
            task = asyncio.create_task(self._guard(delivery))
            self._running.add(task)
            task.add_done_callback(self._note_ended)
        return len(due)

    def _note_ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self.wake()
        error = None if task.cancelled() else task.exception()
        if error is not None:
            # A bug: the lease runs out and the delivery is due again, others go on.
            log.error("callback attempt died", exc_info=error)

    async def finish(self) -> None:
        """Waits for what is out."""
        if self._running:
            await asyncio.wait(self._running)

    async def _guard(self, delivery: Delivery) -> None:
        try:
            await self._deliver(delivery)
        except (StoreFailed, AppendFailed) as error:
            # Its lease runs out and it is due again, under the same id.
            log.warning(
                "callback not marked", extra={"delivery_id": delivery.id, "reason": str(error)}
            )
        except Exception:
            # The boundary of one delivery: tried again on schedule, given up at its end.
            log.exception("callback attempt failed", extra={"delivery_id": delivery.id})
            await self._mark(delivery, None, AttemptOutcome(failure="internal"))

    async def _deliver(self, delivery: Delivery) -> None:
        store = self._deps.store
        self._lines.leave(delivery.id)
        target = await asyncio.to_thread(store.target, delivery.target_id)
        if target is None or target.is_disabled:
            await self._mark(delivery, target, AttemptOutcome(failure="target_gone", is_final=True))
            return
        try:
            parsed = judge_url(target.url, self._deps.policy)
        except ApiError as error:
            await self._mark(delivery, target, AttemptOutcome(failure=error.code, is_final=True))
            return
        share = (parsed.host, target.tenant)
        line = self._line_before(parsed, target.tenant)
        if line is not None:
            wait_s = self._lines.join(delivery.id, line, slots=self._limits.per_host)
            later = self._deps.clock.now() + timedelta(seconds=wait_s)
            await asyncio.to_thread(store.update_delivery, replace(delivery, due_at=later))
            return
        self._hosts[parsed.host] += 1
        self._shares[share] += 1
        try:
            outcome = await self._attempt(delivery, target, parsed)
        finally:
            self._hosts[parsed.host] -= 1
            self._shares[share] -= 1
            # Only what is out stays in memory.
            self._hosts += Counter()
            self._shares += Counter()
        await self._mark(delivery, target, outcome)

    def _line_before(self, parsed: ParsedTarget, tenant: str) -> Share | None:
        """Whose turn it has to wait for; None: it may go."""
        share = (parsed.host, tenant)
        if not self._limits.may_send(self._hosts[parsed.host], self._shares[share]):
            return share
        if parsed.address is None and not self._limits.may_look_up(self._lookups[tenant]):
            return ("", tenant)
        return None

    async def _attempt(
        self, delivery: Delivery, target: CallbackTarget, parsed: ParsedTarget
    ) -> AttemptOutcome:
        try:
            address = await self._address(parsed, target.tenant)
        except TimeoutError:
            return AttemptOutcome(failure="dns_timeout")
        except ApiError as error:
            # A name may resolve elsewhere next time; the verdict is spoken anew then.
            return AttemptOutcome(failure=error.code)
        if address is None:
            return AttemptOutcome(failure="dns")
        headers = sign_headers(
            [target.secret],
            webhook_id=delivery.id,
            body=delivery.body,
            now=self._deps.clock.now(),
        )
        answer = await self._deps.client.post(
            WebhookRequest(
                scheme=parsed.scheme,
                address=address,
                port=parsed.port,
                path=parsed.path,
                host_header=parsed.host_header,
                server_name=parsed.host,
                headers={**headers, "content-type": names.JSON},
                body=delivery.body,
            )
        )
        return AttemptOutcome(
            status=answer.status, failure=answer.failure, retry_after=answer.retry_after
        )

    async def _address(self, parsed: ParsedTarget, tenant: str) -> str | None:
        """The judged address that is connected to; None: the name has none."""
        if parsed.address is not None:
            return str(judge_address(parsed.address, self._deps.policy))
        lookup = asyncio.ensure_future(self._deps.resolve(parsed.host, parsed.port))
        self._lookups[tenant] += 1
        self._running_lookups.add(lookup)
        lookup.add_done_callback(lambda done: self._looked_up(tenant, done))
        # A thread that looks up cannot be stopped: it counts until it ends by itself.
        async with asyncio.timeout(RESOLVE_S):
            addresses = await asyncio.shield(lookup)
        return str(judge_addresses(addresses, self._deps.policy)) if addresses else None

    def _looked_up(self, tenant: str, lookup: "asyncio.Future[Sequence[str]]") -> None:
        self._running_lookups.discard(lookup)
        self._lookups[tenant] -= 1
        self._lookups += Counter()
        if not lookup.cancelled():
            # Of one that nobody waited for any more, nobody asks how it ended.
            lookup.exception()

    async def _mark(
        self, delivery: Delivery, target: CallbackTarget | None, outcome: AttemptOutcome
    ) -> None:
        attempts = delivery.attempt + 1
        now = self._deps.clock.now()
        step = choose_step(
            outcome,
            attempts=attempts,
            delays=self._limits.delays,
            chance=self._deps.chance(),
            now=now,
        )
        marked = replace(delivery, attempt=attempts, last_outcome=outcome.text)
        match step:
            case Delivered():
                marked = replace(marked, state="delivered")
            case TryAgain():
                marked = replace(marked, due_at=step.due_at)
            case GivenUp():
                marked = replace(marked, state="failed")
                # On the dead letter topic before it is marked: killed in between, both happen again.
                await self._report(marked, target, now)
                if step.is_target_gone:
                    await asyncio.to_thread(self._deps.store.disable_target, delivery.target_id)
        await asyncio.to_thread(self._deps.store.update_delivery, marked)
        self._deps.metrics.callbacks.labels(outcome=marked.state).inc()
        log.info(
            "callback attempt",
            extra={
                "delivery_id": delivery.id,
                "request_id": delivery.request_id,
                "attempt": attempts,
                "outcome": outcome.text,
                "state": marked.state,
            },
        )

    async def _report(
        self, delivery: Delivery, target: CallbackTarget | None, now: datetime
    ) -> None:
        carried = {} if target is None else {names.TENANT: target.tenant}
        event = builders.build_callback_failed(
            Origin(request_id=delivery.request_id, carried=carried),
            builders.CallbackFailedData(
                request_id=delivery.request_id,
                target_id=delivery.target_id,
                attempts=delivery.attempt,
                last_outcome=delivery.last_outcome,
            ),
            now=now,
        )
        out = Outgoing(topic=self._deps.topics.dlq, key=delivery.request_id, event=event)
        future = self._deps.appender.append(outgoing_record(out))
        try:
            await asyncio.wrap_future(future)
        except AppendFailed as error:
            if not error.is_final:
                raise
            # No such topic: the receiver is not called again and again for that.
            self._deps.metrics.dead_letters.labels("lost").inc()
            log.error("a dead letter is lost", extra={"delivery_id": delivery.id})  # noqa: TRY400
