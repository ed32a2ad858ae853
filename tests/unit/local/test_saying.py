"""What a person and a program read: banner, table, lines."""

import io
import json
from datetime import UTC, datetime

from rich.console import Console

from functions.local.announcing import RECENT, Change, JsonLines, PlainLines, Recent
from functions.local.banner import banner
from functions.local.table import Board, ModelRow, ProcessRow, mebibytes, render, seconds
from functions.settings import IngressSettings
from router_model.catalogue import Catalogue, Model, Service

AT = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
CHANGE = Change(
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


def test_the_banner_never_shows_a_key() -> None:
    text = say(IngressSettings(host="0.0.0.0", port=9000, api_keys="me=secret"))

    assert "secret" not in text
    assert "http://127.0.0.1:9000" in text
    assert "Authorization" in text


def test_a_json_line_is_one_object_with_its_values() -> None:
    lines: list[str] = []
    JsonLines(lines.append).announce(CHANGE)

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
    PlainLines(lines.append).announce(CHANGE)

    assert lines[0].split()[1:] == ["tiny", "ready", "cold", "start", "2.0", "s"]


def test_the_table_keeps_only_the_last_changes() -> None:
    recent = Recent()
    for _ in range(3 * RECENT):
        recent.announce(CHANGE)

    assert len(recent.lines) == RECENT


def test_the_table_shows_processes_models_and_simulation() -> None:
    board = Board(
        title="Pick and Spin: ready",
        processes=(
            ProcessRow(
                name="ingress", pid=42, state="running", restarts=0, resident_bytes=35 * 2**20
            ),
            ProcessRow(name="router", pid=None, state="restarting", restarts=3, resident_bytes=0),
        ),
        models=(
            ModelRow(
                slug="sim",
                state="cold",
                replicas=0,
                desired=1,
                lag=5,
                in_flight=0,
                eta_s=2.5,
                rate_per_s=0.25,
                is_simulated=True,
            ),
        ),
        recent=("12:00:00  sim cold",),
    )
    out = io.StringIO()
    Console(file=out, width=120).print(render(board))

    for text in ("42", "35 MiB", "restarting", "sim (simulated)", "0/1", "2.5 s", "12:00:00"):
        assert text in out.getvalue()


def test_sizes_and_times_that_are_not_known_are_dashes() -> None:
    assert [mebibytes(0), seconds(None), seconds(0.0)] == ["-", "-", "now"]
