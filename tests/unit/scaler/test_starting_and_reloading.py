"""The catalogue's file while the scaler runs, and ports that somebody else has."""

import asyncio
import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from functions.factories import load_catalogue
from functions.runtime.errors import StartupFailed
from functions.runtime.settings import Settings
from functions.runtime.shutdown import StopFlag
from functions.runtime.system_clock import SystemClock
from functions.scaler.catalogue_reloader import CatalogueReloader, read_content
from functions.scaler.main import ScalerProcess
from functions.testing.fake_clock import FakeClock
from functions.testing.memory_broker import MemoryLog
from tests.unit.scaler.conftest import QUICK, catalogue_of

TEXT = """
models: [{id: Tiny, simulated: true}]
services: [{model: Tiny, slug: SLUG, backend: {kind: fake}}]
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "catalogue.yaml"
    found.write_text(TEXT.replace("SLUG", "first"))
    return found


def following(path: Path, clock: FakeClock) -> CatalogueReloader:
    settings = Settings(catalogue=str(path))
    load = lambda: load_catalogue(settings)  # noqa: E731
    return CatalogueReloader(load, lambda: read_content(str(path)), clock, every_s=5.0)


def slugs(catalogue: CatalogueReloader) -> list[str]:
    return [service.slug for service in catalogue().services]


def test_a_file_that_changed_is_taken_when_it_is_looked_at(path: Path) -> None:
    clock = FakeClock()
    catalogue = following(path, clock)
    first = catalogue()
    path.write_text(TEXT.replace("SLUG", "second"))
    assert catalogue() is first
    clock.advance(5.0)

    assert slugs(catalogue) == ["second"]
    assert catalogue() is catalogue()


def test_a_file_that_is_refused_or_gone_leaves_the_last_one_in_force(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = FakeClock()
    catalogue = following(path, clock)
    path.write_text("services: [{model: none}]")
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            clock.advance(5.0)
            assert slugs(catalogue) == ["first"]
    assert len(caplog.records) == 1, "said once"
    path.unlink()
    clock.advance(5.0)
    assert slugs(catalogue) == ["first"]
    path.write_text(TEXT.replace("SLUG", "third"))
    clock.advance(5.0)

    assert slugs(catalogue) == ["third"]


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


@pytest.mark.parametrize(("field", "what"), [("port", "gRPC"), ("probe_port", "probes")])
def test_a_port_that_is_taken_ends_the_start_in_one_line(taken: int, field: str, what: str) -> None:
    settings = Settings(scaler=msgspec.structs.replace(QUICK, **{field: taken}))
    process = ScalerProcess(
        settings=settings, log=MemoryLog(), catalogue=catalogue_of, clock=SystemClock()
    )

    with pytest.raises(StartupFailed) as caught:
        asyncio.run(process.run(StopFlag()))
    assert str(caught.value) == f"cannot listen on 127.0.0.1:{taken} ({what})"
