"""A kept process is started again whenever it ends unasked, and not after it was stopped."""

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable

import pytest

from functions.local.child_process import ChildSpec
from functions.local.kept_process import KeptProcess
from functions.local.progress_output import ChangeJournal
from functions.runtime.system_clock import SystemClock

pytestmark = pytest.mark.process
WAIT = "import signal; signal.pause()"


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10.0):
        while not condition():  # noqa: ASYNC110 - another process brings it about
            await asyncio.sleep(0.005)


def kept(
    spec: ChildSpec, journal: ChangeJournal, scenario: Callable[[KeptProcess], Awaitable[None]]
) -> None:
    async def run() -> None:
        keeper = KeptProcess(spec, SystemClock(), journal)
        task = asyncio.create_task(keeper.run())
        try:
            await scenario(keeper)
        finally:
            await keeper.stop()
            await asyncio.wait_for(task, 5.0)
        assert keeper.pid is None

    asyncio.run(run())


def test_a_crashed_process_is_started_again_and_the_crash_is_said(program, journal, heard) -> None:
    async def scenario(keeper: KeptProcess) -> None:
        await until(lambda: keeper.pid)
        first = keeper.pid
        keeper.child._process.kill()
        await until(lambda: keeper.pid not in {None, first})

    kept(program(WAIT), journal, scenario)

    assert heard.states_of("child") == ["running", "restarting", "running", "stopping", "stopped"]
    crash = next(c for c in heard.changes if c.state == "restarting")
    assert "SIGKILL" in crash.detail
    assert "child.log" in crash.detail


def test_a_stopped_process_stays_stopped(program, journal, heard) -> None:
    async def scenario(keeper: KeptProcess) -> None:
        await until(lambda: keeper.pid)
        await keeper.stop()

    kept(program(WAIT), journal, scenario)

    assert "restarting" not in heard.states_of("child")


def test_stopping_ends_the_pause_of_a_crash_loop(program, journal, heard) -> None:
    async def scenario(keeper: KeptProcess) -> None:
        await until(lambda: keeper.restarts >= 2)

    kept(program("import sys; sys.exit(1)"), journal, scenario)

    assert heard.states_of("child")[-1] == "stopped"


def test_a_program_that_cannot_be_started_is_said_and_tried_again(program, journal, heard) -> None:
    async def scenario(keeper: KeptProcess) -> None:
        await until(lambda: keeper.restarts >= 1)

    kept(dataclasses.replace(program(""), command=("/no/such/program",)), journal, scenario)

    assert "/no/such/program" in heard.changes[0].detail
