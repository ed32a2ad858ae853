"""`pickspin up` as a whole: what it leaves behind (nothing), what it restarts, what it refuses."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from examples.local_stack import LocalStack

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]
KEYWORD_RULE = {"PICKSPIN_ROUTER_CLASSIFIER": "keyword"}  # nothing is classified here
CATALOGUE = """
models: [{id: steady, simulated: true}]
services: [{model: steady, backend: {kind: fake, args: {load_s: 0.1}}, min_warm: 1}]
"""


def processes_of(data_dir: Path) -> list[int]:
    """Every process that was started for this data directory, wherever it hangs in the tree now."""
    wanted = str(data_dir).encode()
    found = []
    for entry in Path("/proc").iterdir():
        try:
            is_ours = entry.name.isdigit() and wanted in (entry / "environ").read_bytes()
            if is_ours and (entry / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def await_true(condition: Callable[[], object], timeout_s: float = 20.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


@contextmanager
def running(directory: Path) -> Iterator[LocalStack]:
    """A ready stack with one warm fake model, so that every kind of process is there."""
    catalogue = directory / "catalogue.yaml"
    catalogue.write_text(CATALOGUE)
    data_dir = directory / "data"
    data_dir.mkdir()
    stack = LocalStack(["--catalogue", str(catalogue)], KEYWORD_RULE, data_dir)
    try:
        stack.await_ready()
        stack.await_change(lambda c: c["name"] == "steady" and c["state"] == "ready", 30.0)
        yield stack
    finally:
        stack.stop()


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[LocalStack]:
    """A stack of the test's own, to be ended in its own way."""
    with running(tmp_path) as found:
        yield found


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A stack that its tests leave running."""
    with running(tmp_path_factory.mktemp("lasting")) as found:
        yield found


def test_ctrl_c_stops_in_order_and_leaves_no_process(stack: LocalStack) -> None:
    assert len(processes_of(stack.data_dir)) >= 8

    assert stack.stop(signal.SIGINT) == 0

    assert processes_of(stack.data_dir) == []
    stopped = [c["name"].split("/")[0] for c in stack.changes if c["state"] == "stopped"]
    for earlier, later in (("ingress", "steady"), ("steady", "router"), ("router", "recorder")):
        assert stopped.index(earlier) < stopped.index(later)


def test_a_second_signal_stops_at_once(stack: LocalStack) -> None:
    for pid in processes_of(stack.data_dir):
        if pid != stack.process.pid:
            os.kill(pid, signal.SIGSTOP)  # so that none of them can drain
    stack.process.send_signal(signal.SIGINT)
    stack.await_change(lambda c: c["state"] == "stopping", 10.0)
    began = time.monotonic()

    assert stack.stop() == 0

    assert time.monotonic() - began < 4.0
    assert await_true(lambda: not processes_of(stack.data_dir))


def test_nothing_outlives_a_killed_supervisor(stack: LocalStack) -> None:
    stack.process.kill()
    stack.process.wait(5)

    assert await_true(lambda: not processes_of(stack.data_dir))


def test_what_dies_is_started_again(lasting: LocalStack) -> None:
    names = ["ingress", "router", "source", "recorder", "callbacks", "steady"]
    seen = len(lasting.changes)
    for name in names:
        os.kill(lasting.pid(name), signal.SIGKILL)
    for name in names:
        lasting.await_change(
            lambda c, name=name: c["name"].split("/")[0] == name and c.get("pid"), 20.0, after=seen
        )

    seen, before = len(lasting.changes), lasting.bootstrap
    os.kill(lasting.pid("broker"), signal.SIGKILL)
    lost = lasting.await_change(lambda c: c["state"] == "lost", 5.0, after=seen)
    lasting.await_change(
        lambda c: (c["name"], c["state"]) == ("pickspin", "ready"), 30.0, after=seen
    )
    assert "queued work is lost" in lost["detail"]
    assert lasting.bootstrap != before


def up(*arguments: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if "PICKSPIN" not in name}
    return subprocess.run(
        [sys.executable, "-m", "functions", "up", *arguments],
        env=clean,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_what_a_stack_writes_is_its_owners_alone(lasting: LocalStack) -> None:
    answer = httpx.post(
        f"{lasting.url}/v1/files",
        files={"file": ("a", b"what somebody asked")},
        data={"purpose": "batch"},
    )
    assert answer.status_code == 200
    written = [
        one
        for one in lasting.data_dir.rglob("*")
        if not one.is_socket() and one.name != "up.stderr"  # ours
    ]
    assert {"store.sqlite3", "logs", "blobs", "up.lock"} <= {one.name for one in written}
    assert [str(one) for one in written if one.stat().st_mode & 0o077] == []


def test_a_second_stack_is_refused_before_anything_starts(
    lasting: LocalStack, tmp_path: Path
) -> None:
    same_data = up("--data-dir", str(lasting.data_dir), "--port", "0")
    same_port = up("--data-dir", str(tmp_path / "other"), "--port", str(lasting.port))

    assert (same_data.returncode, same_port.returncode) == (1, 1)
    assert f"pid {lasting.process.pid}" in same_data.stderr
    assert f"port {lasting.port}" in same_port.stderr
    assert [len(each.stderr.splitlines()) for each in (same_data, same_port)] == [1, 1]
    assert processes_of(tmp_path / "other") == []


def test_without_a_terminal_it_writes_plain_lines_and_the_banner(tmp_path: Path) -> None:
    catalogue = tmp_path / "catalogue.yaml"
    catalogue.write_text(CATALOGUE)
    out = tmp_path / "out"
    with out.open("wb") as file:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "functions", "up", "--port", "0"),
                *("--catalogue", str(catalogue), "--data-dir", str(tmp_path / "data")),
            ],
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        is_ready = await_true(lambda: "is ready at" in out.read_text(), 60.0)
        process.send_signal(signal.SIGINT)
        status = process.wait(30)

    text = out.read_text()
    assert is_ready, text
    assert status == 0
    assert "in memory: queued work is lost" in text
    assert "steady (simulated)" in text
    assert "\x1b[" not in text
