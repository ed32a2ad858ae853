"""The doorbell wakes readers of a topic, and nobody else."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from functions.kafka.embedded import doorbell
from functions.kafka.embedded.doorbell import Bell, Ear, bell_directory
from functions.runtime.errors import StartupFailed


@pytest.fixture
def bell(tmp_path: Path) -> Iterator[Bell]:
    found = Bell(tmp_path)
    yield found
    found.close()


def test_a_ring_wakes_every_reader_of_the_topic(tmp_path: Path, bell: Bell) -> None:
    one, two, other = Ear(tmp_path, ("a",)), Ear(tmp_path, ("b", "a")), Ear(tmp_path, ("b",))
    bell.ring("a")
    assert one.wait(0.0)
    assert two.wait(0.0)
    assert not other.wait(0.0)
    for ear in (one, two, other):
        ear.close()


def test_several_rings_count_as_one(tmp_path: Path, bell: Bell) -> None:
    ear = Ear(tmp_path, ("a",))
    for _ in range(5):
        bell.ring("a")
    assert ear.wait(0.0)
    assert not ear.wait(0.0)
    ear.close()


def test_a_reader_that_is_gone_is_forgotten(tmp_path: Path, bell: Bell) -> None:
    left = tmp_path / f"{doorbell._name('a')}.1.1"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
        dead.bind(str(left))
    bell.ring("a")
    assert not left.exists()


def test_a_closed_ear_leaves_no_file(tmp_path: Path) -> None:
    Ear(tmp_path, ("a", "b")).close()
    assert [] == list(tmp_path.iterdir())


def test_nobody_listening_is_no_error(bell: Bell) -> None:
    bell.ring("nobody")


def test_a_full_queue_does_not_block(tmp_path: Path, bell: Bell) -> None:
    ear = Ear(tmp_path, ("a",))
    for _ in range(5000):
        bell.ring("a")
    assert ear.wait(0.0)
    ear.close()


def test_a_directory_that_others_may_enter_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doorbell.tempfile, "gettempdir", lambda: str(tmp_path))
    (tmp_path / f"pickspin-bell-{os.getuid()}-9").mkdir(mode=0o777)
    (tmp_path / f"pickspin-bell-{os.getuid()}-9").chmod(0o777)
    with pytest.raises(StartupFailed):
        bell_directory("127.0.0.1:9")
