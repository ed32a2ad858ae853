"""Admission: whether one more request may come in.

`admit` is the pure decision over counted load. The other functions count what is open and call it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from events.event import Record
from functions.ingress.dependencies import Dependencies
from functions.ingress.parse_call import InferenceCall
from functions.ingress.pending_requests import Waiter
from functions.ingress.tenant_shares import may_take
from functions.runtime.errors import ApiError

HOLD_SPARE_S: Final = 60.0
"""A request whose end was never seen is no longer counted this long after its deadline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantLimits:
    """The limits of one tenant on this replica."""

    max_waiters: int
    tenant_streams: int
    tenant_queue: int
    tenant_share: float = 1.0
    """Of the waiters: see `tenant_shares.may_take`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is open now: waiters of all tenants, and the asking tenant's streams and unfinished requests."""

    waiters: int = 0
    tenant_streams: int = 0
    tenant_queue: int = 0


def admit(load: Load, caps: TenantLimits, *, is_stream: bool) -> None:
    """Lets one more call in that will hold a waiter open, or not.

    Raises:
        ApiError: `overloaded` (503), `tenant_rate` or `tenant_queue` (429), with Retry-After.
    """
    if load.waiters >= caps.max_waiters:
        raise ApiError("overloaded", "Too many requests wait here; try again shortly.")
    if not may_take(
        own=load.tenant_queue,
        taken=load.waiters,
        places=caps.max_waiters,
        share=caps.tenant_share,
    ):
        raise ApiError("tenant_rate", "Too many calls of this key wait here; others need room too.")
    if is_stream and load.tenant_streams >= caps.tenant_streams:
        raise ApiError(
            "tenant_rate", f"More than {caps.tenant_streams} streams are open for this key."
        )
    if load.tenant_queue >= caps.tenant_queue:
        raise ApiError("tenant_queue", queue_is_full(caps.tenant_queue))


def queue_is_full(most: int) -> str:
    """The refusal for a tenant with `most` unfinished requests."""
    return f"More than {most} requests of this key are unfinished."


def read_tenant_limits(deps: Dependencies, tenant: str) -> TenantLimits:
    """The limits of a tenant: its own where the catalogue has them."""
    settings = deps.settings.ingress
    own = deps.catalogue.tenants.get(tenant)
    streams = settings.tenant_streams if own is None or own.max_streams is None else own.max_streams
    queue = settings.tenant_queue if own is None or own.max_queue is None else own.max_queue
    return TenantLimits(
        max_waiters=settings.max_waiters,
        tenant_streams=streams,
        tenant_queue=queue,
        tenant_share=deps.tenant_share,
    )


@contextmanager
def open_waiter(deps: Dependencies, call: InferenceCall) -> Iterator[Waiter]:
    """A waiter for a call that waits here, if it is admitted.

    What is open on this replica is counted, so no store is asked.

    Raises:
        ApiError: see `admit`.
    """
    waiters, tenant = deps.waiters, call.tenant
    load = Load(
        waiters=len(waiters),
        tenant_streams=waiters.count_streams(tenant),
        tenant_queue=waiters.count(tenant),
    )
    admit(load, read_tenant_limits(deps, tenant), is_stream=call.is_stream)
    waiter = waiters.open(call.request_id, tenant, is_stream=call.is_stream)
    try:
        yield waiter
    finally:
        waiters.close(waiter)


def require_writable(deps: Dependencies) -> None:
    """Refuses at once while the cluster is known to take no writes.

    Raises:
        ApiError: `not_accepted`.
    """
    if deps.health.is_down():
        raise ApiError("not_accepted", "The request could not be written down; try again.")


async def require_room(deps: Dependencies, call: InferenceCall) -> None:
    """Checks the queue before a large body goes to the blob store. The row's transaction decides.

    Raises:
        ApiError: `tenant_queue`.
    """
    queue = read_tenant_limits(deps, call.tenant).tenant_queue
    is_large = len(call.body.raw) > deps.settings.broker.inline_bytes
    if is_large and await deps.offload(deps.store.unfinished, tenant=call.tenant) >= queue:
        raise ApiError("tenant_queue", queue_is_full(queue))


def hold_bytes(deps: Dependencies, call: InferenceCall, record: Record) -> bool:
    """Counts the record against the in-memory broker's room until the request ends.

    Returns whether it is counted now and was not before.

    Raises:
        ApiError: `overloaded`.
    """
    now_s = deps.clock.monotonic_s()
    return deps.broker_room.hold(
        call.request_id,
        record.key or b"",
        record.size_bytes,
        until_s=now_s + call.wait_s + HOLD_SPARE_S,
        now_s=now_s,
    )
