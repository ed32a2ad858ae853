"""One child process: started, drained, killed, with everything it started."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from functions.local.child_process import (
    LOG_BYTES,
    Child,
    ChildSpec,
    children_by_parent,
    read_last_line,
    resident_bytes,
    tree_bytes,
    trim_log,
)

pytestmark = pytest.mark.process
Program = Callable[..., ChildSpec]
WAIT = "import signal; print('up', flush=True); signal.pause()"
STUBBORN = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
while True:
    signal.pause()
"""
PARENT = """
import subprocess, sys, signal
child = subprocess.Popen([sys.executable, "-S", "-c", "import signal; signal.pause()"])
print(child.pid, flush=True)
signal.pause()
"""


async def said(spec: ChildSpec) -> str:
    """The first line of a child's log."""
    async with asyncio.timeout(10.0):
        while not read_last_line(spec.log):  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.005)
    return read_last_line(spec.log)


def test_a_child_that_ends_on_sigterm_is_not_killed(program: Program) -> None:
    async def scenario() -> int:
        child = await Child.start(spec := program(WAIT))
        await said(spec)
        return await child.stop()

    assert asyncio.run(scenario()) == -signal.SIGTERM


def test_a_child_that_ignores_sigterm_is_killed_when_its_time_is_over(program: Program) -> None:
    async def scenario() -> int:
        child = await Child.start(spec := program(STUBBORN, stop_s=0.1))
        await said(spec)
        return await child.stop()

    assert asyncio.run(scenario()) == -signal.SIGKILL


@pytest.mark.parametrize("how", ["stop", "crash"])
def test_what_a_child_started_goes_with_it(program: Program, how: str) -> None:
    async def scenario() -> int:
        child = await Child.start(spec := program(PARENT))
        grandchild = int(await said(spec))
        assert is_alive(grandchild)
        if how == "crash":
            child._process.kill()
            await child.exited
        else:
            await child.stop()
        return grandchild

    assert ends(asyncio.run(scenario()))


def test_what_a_child_says_is_in_its_log(program: Program) -> None:
    spec = program("import sys; sys.stderr.write('first\\nno such file\\n\\n'); sys.exit(3)")

    async def scenario() -> int:
        return await (await Child.start(spec)).exited

    assert asyncio.run(scenario()) == 3
    assert read_last_line(spec.log) == "no such file"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            '{"level": "ERROR", "message": "worker failed", "reason": "no weights"}',
            "worker failed: no weights",
        ),
        ('{"message": "it ends"}', "it ends"),
        ('{"other": 1}', '{"other": 1}'),
        ("[1, 2]", "[1, 2]"),
        ("5", "5"),
        ('{"message": "cut', '{"message": "cut'),
    ],
)
def test_a_last_line_of_our_own_logs_is_read_as_a_sentence(
    tmp_path: Path, line: str, words: str
) -> None:
    log = tmp_path / "x.log"
    log.write_text(f"before\n{line}\n\n", encoding="utf-8")

    assert read_last_line(log) == words


def test_a_log_that_grew_too_large_is_moved_aside(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_bytes(b"x" * (LOG_BYTES + 1))

    trim_log(log)

    assert log.stat().st_size == 0
    assert (tmp_path / "x.log.1").stat().st_size == LOG_BYTES + 1


def test_a_missing_log_has_no_last_line_and_needs_no_trimming(tmp_path: Path) -> None:
    trim_log(tmp_path / "none.log")

    assert read_last_line(tmp_path / "none.log") == ""


def test_the_memory_of_a_process_is_that_of_all_it_started() -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) as parent:
        deadline = time.monotonic() + 20.0
        while not (children := children_by_parent().get(parent.pid)):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        found = tree_bytes(parent.pid, {parent.pid: children})
        alone = resident_bytes(parent.pid)
        assert parent.stdin is not None
        parent.stdin.close()

    assert found >= alone + 1024 * 1024


def test_memory_of_a_process_that_is_gone_is_zero() -> None:
    assert resident_bytes(2**22 + 1) == 0


def is_alive(pid: int) -> bool:
    """False for a process that is gone, or a zombie that its new parent has not collected yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def ends(pid: int) -> bool:
    """Whether a process is gone within five seconds."""

    async def poll() -> bool:
        for _ in range(500):
            if not is_alive(pid):
                return True
            await asyncio.sleep(0.01)
        return False

    return asyncio.run(poll())
