"""What a person and a program read: banner, table, lines."""

import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from functions.local.banner import banner
from functions.local.live_table import (
    ModelRow,
    ProcessRow,
    TableContent,
    mebibytes,
    render,
    seconds,
)
from functions.local.progress_output import (
    RECENT,
    JsonAnnouncer,
    PlainAnnouncer,
    RecentChanges,
    StateChange,
)
from functions.runtime.settings import IngressSettings
from router_model.catalogue.model import Catalogue, Model, Service

AT = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
CHANGE = StateChange(
    at=AT, kind="model", name="tiny", state="ready", detail="cold start 2.0 s", values=(("pid", 7),)
)
CATALOGUE = Catalogue(
    models=(Model(id="Tiny"), Model(id="Sim", simulated=True), Model(id="Unserved")),
    services=(Service(model="Tiny", slug="tiny"), Service(model="Sim", slug="sim")),
)


def say(ingress: IngressSettings) -> str:
    return banner(
        catalogue=CATALOGUE,
        ingress=ingress,
        broker="embedded, in memory: queued work is lost when this stops",
        logs="/data/logs",
        ready_s=2.04,
    )


def test_the_banner_says_where_what_and_how_to_try() -> None:
    text = say(IngressSettings(port=9000))

    assert "ready at http://127.0.0.1:9000 (after 2.0 s)" in text
    assert "in memory: queued work is lost" in text
    assert "Tiny, Sim (simulated)" in text
    assert "Unserved" not in text
    assert "curl http://127.0.0.1:9000/v1/chat/completions" in text
    assert "/data/logs" in text


def test_no_name_of_the_banner_is_broken_over_a_line() -> None:
    names = [f"model-number-{i}-of-many" for i in range(9)]
    catalogue = Catalogue(
        models=tuple(Model(id=name) for name in names),
        services=tuple(Service(model=name, slug=name) for name in names),
    )

    lines = banner(
        catalogue=catalogue, ingress=IngressSettings(), broker="b", logs="/l", ready_s=1.0
    ).splitlines()

    (first,) = [at for at, line in enumerate(lines) if line.startswith("  models  ")]
    listed = "\n".join(lines[first : first + 4])
    assert all(len(line) <= 80 for line in lines[first : first + 4])
    assert [name for name in names if name in listed] == names


def test_the_banner_never_shows_a_key() -> None:
    text = say(IngressSettings(host="0.0.0.0", port=9000, api_keys="me=secret"))

    assert "secret" not in text
    assert "http://127.0.0.1:9000" in text
    assert "Authorization" in text


def test_a_json_line_is_one_object_with_its_values() -> None:
    lines: list[str] = []
    JsonAnnouncer(lines.append).announce(CHANGE)

    assert lines[0].endswith("\n")
    assert json.loads(lines[0]) == {
        "at": "2026-11-21T12:00:00.000Z",
        "kind": "model",
        "name": "tiny",
        "state": "ready",
        "detail": "cold start 2.0 s",
        "pid": 7,
    }


def test_a_plain_line_is_for_a_person() -> None:
    lines: list[str] = []
    PlainAnnouncer(lines.append).announce(CHANGE)

    assert lines[0].split()[1:] == ["tiny", "ready", "cold", "start", "2.0", "s"]


def test_the_table_keeps_only_the_last_changes() -> None:
    recent = RecentChanges()
    for _ in range(3 * RECENT):
        recent.announce(CHANGE)

    assert len(recent.lines) == RECENT


def process(name: str, state: str = "running", **fields: int | None) -> ProcessRow:
    known: dict[str, Any] = {"pid": 42, "restarts": 0, "resident_bytes": 35 * 2**20} | fields
    return ProcessRow(name=name, state=state, **known)


def model(slug: str, state: str = "cold", **fields: Any) -> ModelRow:
    known: dict[str, Any] = {
        "replicas": 0, "desired": 1, "lag": 5, "in_flight": 0, "eta_s": 2.5, "rate_per_s": 0.25,
        "is_simulated": False,
    }  # fmt: skip
    return ModelRow(slug=slug, state=state, **(known | fields))


def drawn(board: TableContent, width: int = 80, height: int = 24) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width).print(render(board, width, height))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_the_table_shows_models_first_then_processes_then_changes() -> None:
    board = TableContent(
        title="Pick and Spin: ready",
        processes=(process("ingress"), process("router", "restarting", pid=None, restarts=3)),
        models=(model("sim", is_simulated=True), model("big", "loading", is_late=True)),
        recent=("12:00:00  sim cold",),
    )

    text = "\n".join(drawn(board))

    wanted = ("sim (simulated)", "0/1", "2.5 s", " late", "35 MiB", "restarting", "12:00:00")
    assert [text.index(each) for each in wanted] == sorted(text.index(each) for each in wanted)


PROCESSES = (*map(process, ("broker", "ingress", "source", "recorder", "callbacks")),
             process("router", "restarting", restarts=3))  # fmt: skip
RECENT_LINES = tuple(f"12:00:0{i}  a change number {i}" for i in range(8))


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("count", [2, 9, 40])
def test_everything_fits_on_the_screen_and_no_name_is_cut(width: int, count: int) -> None:
    names = [f"a-model-with-a-rather-long-name-of-number-{i}" for i in range(count)]
    models = (model(names[0], "ready"), *(model(name, lag=0) for name in names[1:]))
    board = TableContent(title="ready", processes=PROCESSES, models=models, recent=RECENT_LINES)
    height = 24 if width == 80 else 40

    lines = drawn(board, width, height)

    assert max(map(len, lines)) <= width
    assert count == 40 or len(lines) <= height
    assert all(any(name in line for line in lines) for name in names)
    assert any("router" in line and "restarting" in line for line in lines)
    assert lines[-1].endswith("a change number 7")


def test_sizes_and_times_that_are_not_known_are_dashes() -> None:
    assert [mebibytes(0), seconds(None), seconds(0.0)] == ["-", "-", "now"]
