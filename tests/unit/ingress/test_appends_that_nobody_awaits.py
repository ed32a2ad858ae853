"""A caller that is cancelled leaves its append alone, and how that ends is nobody's unretrieved exception."""

import asyncio
import gc
from concurrent.futures import Future

import pytest

from events.event import PartitionId
from functions.ingress.submit import await_append
from functions.runtime.errors import AppendFailed


@pytest.fixture
def complaints():
    """What asyncio's loop had to complain of while the test ran."""
    return []


@pytest.mark.parametrize("failed", [True, False], ids=["failed", "appended"])
def test_an_append_that_ends_after_its_caller_was_cancelled_is_no_complaint(complaints, failed):
    async def cancelled_then_settled():
        asyncio.get_running_loop().set_exception_handler(
            lambda _loop, context: complaints.append(context["message"])
        )
        future: Future[PartitionId] = Future()
        future.set_running_or_notify_cancel()
        caller = asyncio.create_task(await_append(future))
        await asyncio.sleep(0)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        if failed:
            future.set_exception(AppendFailed("Kafka cannot be reached"))
        else:
            future.set_result(PartitionId("t", 0))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        gc.collect()

    asyncio.run(cancelled_then_settled())
    assert complaints == []


def test_a_caller_that_waits_gets_how_it_ended():
    async def waited():
        future: Future[PartitionId] = Future()
        future.set_exception(AppendFailed("the appender is closed"))
        await await_append(future)

    with pytest.raises(AppendFailed, match="closed"):
        asyncio.run(waited())
