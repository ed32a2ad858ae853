"""`pickspin train --from-store`: feedback on recorded requests becomes weights, alone or beside outcome files."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from events import builders, names
from events.codecs import kafka_codec
from events.event import Event, Outgoing
from events.payloads import PickspinData
from events.requests import Origin
from functions.cli import main
from functions.ports.store import FeedbackRow
from functions.recorder.event_to_change import build_change
from functions.sql.sql_store import SqlStore
from functions.testing.fake_clock import FakeClock
from functions.testing.memory_broker import MemoryBlobs
from router_model.classifier import weights

pytestmark = pytest.mark.train
CATALOGUE = """
models:
  - {id: mine, tier: L1, learned_as: small-1b, weights: {path: /s.gguf}}
  - {id: other, tier: L3, weights: {path: /l.gguf}}
services: [{model: mine}, {model: other}]
"""
START = datetime(2026, 1, 1, tzinfo=UTC)


def happened(store: SqlStore, topic: str, event: Event) -> None:
    record = kafka_codec.outgoing_record(Outgoing(topic=topic, key=event.id, event=event))
    change = build_change(record, MemoryBlobs(), wait_s=60, now=START)
    assert change is not None
    store.record_batch([change])


def rated(
    store: SqlStore, clock: FakeClock, number: int, prompt: str, scores: dict[str, float]
) -> None:
    """One request: asked, answered by `mine`, and rated; another model's score is a judge's."""
    name, body = f"r{number}", {"messages": [{"role": "user", "content": prompt}]}
    asked = Event(
        id=name, source="/ingress/t", type=names.REQUEST, time=clock.now().isoformat(), data=json.dumps(body).encode(),
        datacontenttype="application/json", extensions={names.TENANT: "team" if number % 2 else "default"},
    )  # fmt: skip
    happened(store, "infer.requests", asked)
    clock.advance(2)
    about = PickspinData(request_id=name, state="completed", service="mine", model="mine")
    answer = {"choices": [{"message": {"role": "assistant", "content": "four " * 20}}]}
    done = builders.build_completed(
        Origin(request_id=name), answer, about, source="/m", generation="g", now=clock.now()
    )
    happened(store, "infer.responses", done)
    for model, score in scores.items():
        by = {"source": "user"} if model == "mine" else {"source": "judge", "judge": "j"}
        row = FeedbackRow(request_id=name, model=model, score=score, at=clock.now(), **by)
        assert store.add_feedback(row, limit=9)


@pytest.fixture
def directory(made: Any, tmp_path: Path) -> Path:
    """A data directory with 80 rated requests."""
    clock = FakeClock(START)
    store = SqlStore(f"sqlite:///{tmp_path / 'store.sqlite3'}", clock)
    for number, (prompt, is_hard) in enumerate(made.prompts(80, 3)):
        rated(store, clock, number, prompt, {"mine": float(not is_hard), "other": 0.75})
    store.close()
    (tmp_path / "catalogue.effective.yaml").write_text(CATALOGUE)
    return tmp_path


def train(directory: Path, out: Path, *more: str) -> int:
    where = ("--from-store", "--data-dir", str(directory), "--out", str(out))
    return main(["train", *where, "--linear-only", "--threads", "1", *more])


def test_feedback_becomes_weights_under_learned_names(directory: Path, tmp_path: Path) -> None:
    assert train(directory, tmp_path / "w") == 0
    data = weights.read_manifest(tmp_path / "w").training["data"]
    assert (data["prompts"], data["labels"], data["sources"]) == (80, 160, ["store"])
    heads = weights.load_learned(tmp_path / "w", mode="linear")._linear.heads
    assert {"small-1b", "other", "tier:L1"} <= set(heads.names)


def test_store_and_files_are_learned_from_together(
    directory: Path, outcomes: Path, tmp_path: Path
) -> None:
    assert train(directory, tmp_path / "w", "--data", str(outcomes)) == 0
    data = weights.read_manifest(tmp_path / "w").training["data"]
    assert data["sources"] == ["made", "store"]
    assert data["models"] == 3


def test_a_store_of_few_ratings_says_how_many_there_are(
    directory: Path, tmp_path: Path, capsys: Any
) -> None:
    assert train(directory, tmp_path / "w", "--tenant", "team") == 1
    said = capsys.readouterr().err
    assert "too little data" in said
    assert "a model needs 40, and the most have: " in said
    assert said.count("\n") == 1
    assert train(directory, tmp_path / "w", "--since", "2026-01-02") == 1
    assert "no outcome to learn from" in capsys.readouterr().err
    assert train(tmp_path / "none", tmp_path / "w") == 1
    assert "there is no store" in capsys.readouterr().err
