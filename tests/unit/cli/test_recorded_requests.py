"""Replay and export of what a store recorded: measured and expected apart, prompts with their scores."""

import gzip
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from events import builders, names
from events.codecs import kafka_codec
from events.event import Event, Outgoing
from events.payloads import PickspinData
from events.requests import Origin
from functions.cli import main
from functions.cli.finished_requests import average_scores, outcomes_from_store
from functions.ports.store import FeedbackRow
from functions.recorder.event_to_change import build_change
from functions.sql.sql_store import SqlStore
from functions.testing.fake_clock import FakeClock
from functions.testing.memory_broker import MemoryBlobs
from router_model.catalogue.loader import load_catalogue
from router_model.replay.outcome_dataset import OutcomeRow, hash_question, read_outcomes

CATALOGUE = """
models:
  - {id: small, tier: L1, learned_as: Learned, weights: {path: /s.gguf}}
  - {id: large, tier: L3, weights: {path: /l.gguf}}
services:
  - {model: small, price_per_hour_usd: 1, tokens_per_s: 100}
  - {model: large, price_per_hour_usd: 36, tokens_per_s: 20}
profiles:
  good: {alpha: 1, latency: 0, cost: 0}
  cheap: {alpha: 0, latency: 0, cost: 1}
default_profile: good
"""
START = datetime(2026, 1, 1, tzinfo=UTC)


class Past:
    """A store in a data directory, and what happened."""

    def __init__(self, directory: Any) -> None:
        self.clock = FakeClock(START)
        self.blobs = MemoryBlobs()
        self.store = SqlStore(f"sqlite:///{directory / 'store.sqlite3'}", self.clock)

    def asked(self, request_id: str, text: str = "What is a monad?", **more: Any) -> None:
        event = Event(
            id=request_id,
            source="/ingress/t",
            type=names.REQUEST,
            time=self.clock.now().isoformat(),
            datacontenttype="application/json",
            extensions={names.TENANT: more.pop("tenant", "default")},
            data=json.dumps({"messages": [{"role": "user", "content": text}], **more}).encode(),
        )
        self._happened("infer.requests", event)

    def answered(self, request_id: str, model: str = "large", *, usd: float = 0.25) -> None:
        self.clock.advance(2)
        answer = {
            "choices": [{"message": {"role": "assistant", "content": "four"}}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 3},
        }
        about = PickspinData(
            request_id=request_id,
            state="completed",
            service=model,
            model=model,
            cost=builders.Cost(usd=usd),
        )
        event = builders.build_completed(
            Origin(request_id=request_id),
            answer,
            about,
            source="/m",
            generation="g",
            now=self.clock.now(),
        )
        self._happened("infer.responses", event)

    def failed(self, request_id: str) -> None:
        failure = builders.Failure(
            code="backend_failed", message="m", type="server_error", status=502
        )
        event = builders.build_failed(
            Origin(request_id=request_id), failure, source="/t", now=self.clock.now()
        )
        self._happened("infer.responses", event)

    def rated(self, request_id: str, score: float, model: str = "large", **more: Any) -> None:
        row = FeedbackRow(
            request_id=request_id,
            source="judge" if more else "user",
            model=model,
            score=score,
            at=self.clock.now(),
            **more,
        )
        assert self.store.add_feedback(row, limit=9)

    def _happened(self, topic: str, event: Event) -> None:
        record = kafka_codec.outgoing_record(Outgoing(topic=topic, key=event.id, event=event))
        change = build_change(record, self.blobs, wait_s=60, now=self.clock.now())
        assert change is not None
        self.store.record_batch([change])


@pytest.fixture
def past(tmp_path: Any) -> Any:
    found = Past(tmp_path)
    yield found
    found.store.close()


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    (tmp_path / "catalogue.effective.yaml").write_text(CATALOGUE)
    monkeypatch.setenv("PICKSPIN_DATA_DIR", str(tmp_path))


def replayed(capsys: Any, *arguments: str) -> Any:
    assert main(["replay", "--json", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_replay_puts_what_was_beside_what_would_be(past: Any, capsys: Any) -> None:
    past.asked("r1")
    past.answered("r1")
    past.rated("r1", 0.75)
    past.rated("r1", 0.5, "small", judge="j")
    past.asked("r2", "Prove it.")
    past.failed("r2")
    past.asked("unfinished")

    found = replayed(capsys, "--profile", "cheap")

    good, failed = sorted(found["requests"], key=lambda one: one["id"])
    assert good["was"]["measured"] == {"cost_usd": 0.25, "seconds": 2.0, "answered": 0.75}
    assert good["would"]["service"] == "small"
    assert good["would"]["measured"] == {"cost_usd": None, "seconds": None, "answered": 0.5}
    assert good["would"]["expected"]["cost_usd"] < good["was"]["expected"]["cost_usd"]
    assert (good["changed"], good["decision"]["profile"]) == (True, "cheap")
    assert (failed["failed"], failed["was"]) == (True, None)
    summary = found["summary"]
    assert (summary["requests"], summary["changed"], summary["failed"]) == (2, 1, 1)
    assert summary["measured"]["answered"] == {"count": 1, "was": 0.75, "would": 0.5}
    assert summary["measured"]["cost_usd"]["count"] == 0


def test_a_replay_as_it_was_asked_changes_nothing(past: Any, capsys: Any) -> None:
    past.asked("r1")
    past.answered("r1")
    found = replayed(capsys)
    assert found["summary"]["changed"] == 0
    assert found["requests"][0]["would"]["measured"]["cost_usd"] == 0.25


def test_a_replay_is_text_for_people(past: Any, capsys: Any) -> None:
    past.asked("r1")
    past.answered("r1")
    assert main(["replay", "--model", "small"]) == 0
    said = capsys.readouterr().out
    (line,) = (line for line in said.splitlines() if line.startswith("r1 "))
    assert line.split()[1:3] == ["large", "small"]
    assert line.split()[3].startswith("=0.250000")
    assert [cell[0] for cell in line.split()[3:]] == list("=~>~=~>~~>~")
    assert "1 would go elsewhere" in said
    assert "USD, expected of both" in said

    assert main(["replay"]) == 0
    assert "=0.250000 > =0.250000" in capsys.readouterr().out

    assert main(["replay", "--model", "nobody"]) == 0
    assert "refused: model_not_found" in capsys.readouterr().out


def test_a_replay_is_bounded_by_number_age_and_tenant(past: Any, capsys: Any) -> None:
    for number in range(40):
        past.asked(f"r{number:02}", tenant="t2" if number == 39 else "default")
        past.answered(f"r{number:02}")
    ids = [one["id"] for one in replayed(capsys, "--limit", "2")["requests"]]
    assert ids == ["r39", "r38"]
    assert len(replayed(capsys, "--limit", "0")["requests"]) == 40
    assert len(replayed(capsys, "--tenant", "t2")["requests"]) == 1
    since = (START + timedelta(seconds=79)).isoformat()
    assert [one["id"] for one in replayed(capsys, "--since", since)["requests"]] == ["r39"]


def test_a_catalogue_that_dropped_the_recorded_service_still_decides(
    past: Any, capsys: Any, tmp_path: Any
) -> None:
    past.asked("r1")
    past.answered("r1")
    other = tmp_path / "other.yaml"
    other.write_text("models: [{id: new, weights: {path: /n.gguf}}]\nservices: [{model: new}]\n")
    (found,) = replayed(capsys, "--catalogue", str(other))["requests"]
    assert found["would"]["service"] == "new"
    assert found["was"]["expected"]["cost_usd"] is None


def test_a_file_of_outcomes_batch_lines_and_bodies_is_replayed(capsys: Any, tmp_path: Any) -> None:
    row = {
        "id": "q1",
        "source": "s",
        "benchmark": "b",
        "qkey": "k",
        "prompt": "What is 2 + 2?",
        "outcomes": {"Learned": 0.5},
        "cost": {"Learned": 0.125},
    }
    body = {"model": "small", "messages": [{"role": "user", "content": "hi"}]}
    lines = [row, {"custom_id": "c1", "url": "/v1/chat/completions", "body": body}, body]
    path = tmp_path / "some.jsonl.gz"
    path.write_bytes(gzip.compress("\n\n".join(map(json.dumps, lines)).encode()))

    found = replayed(capsys, "--file", str(path), "--profile", "cheap", "--cold")

    assert [one["id"] for one in found["requests"]] == ["q1", "c1", "line-5"]
    assert found["requests"][0]["would"]["measured"]["answered"] == 0.5
    assert found["models_are"] == "asleep"
    assert found["summary"]["without_choice"] == 3


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"body": 1}', '{"url": "/x", "body": {}}', '{"outcomes": {}}', "{}"]
)
def test_a_line_that_cannot_be_replayed_is_named(line: str, capsys: Any, tmp_path: Any) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(f"\n{line}\n")
    assert main(["replay", "--file", str(path)]) == 1
    assert "bad.jsonl, line 2: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["replay", "--since", "soon"], 2),
        (["replay", "--file", "/no/such"], 2),
        (["replay", "--data-dir", "/no/such"], 1),
        (["replay", "--store", "nonsense://x"], 1),
        (["outcomes", "export"], 2),
        (["outcomes", "export", "--out", "/tmp", "--data-dir", "/no/such"], 1),
    ],
)
def test_what_cannot_be_read_is_one_line(arguments: Any, status: int, capsys: Any) -> None:
    assert main(arguments) == status
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_rated_answers_are_exported_as_outcomes(past: Any, capsys: Any, tmp_path: Any) -> None:
    past.asked("r1")
    past.answered("r1")
    past.rated("r1", 1.0)
    past.rated("r1", 0.25, judge="j")
    past.rated("r1", 0.5, "small", judge="j")
    past.asked("unrated", "never mind")
    past.answered("unrated")

    out = tmp_path / "out"
    assert main(["outcomes", "export", "--out", str(out), "--json"]) == 0

    assert json.loads(capsys.readouterr().out)["rows"] == 1
    (row,) = read_outcomes(out)
    assert row == OutcomeRow(
        id="r1",
        source="store",
        benchmark="recorded",
        qkey=hash_question("what is a monad"),
        prompt="What is a monad?",
        outcomes={"large": 0.75, "Learned": 0.5},
        out_chars={"large": 4},
        cost={"large": 0.25},
        latency_ms={"large": 2000.0},
        tokens={"large": (7, 3)},
    )
    assert [path.name for path in out.iterdir()] == ["store.jsonl.gz"]


def test_only_what_has_a_prompt_and_a_score_is_learned_from(past: Any) -> None:
    past.asked("unstored", store=False)
    past.answered("unstored")
    past.rated("unstored", 1.0)
    past.asked("empty", "")
    past.answered("empty")
    past.rated("empty", 1.0)
    past.asked("good")
    past.answered("good", "gone")
    past.rated("good", 1.0, "gone")
    found = list(outcomes_from_store(past.store, past.blobs, load_catalogue(CATALOGUE)))
    assert [(one.id, one.outcomes) for one in found] == [("good", {"gone": 1.0})]


def test_a_large_prompt_comes_out_of_the_blob_store_and_a_lost_one_is_passed_over(
    past: Any,
) -> None:
    body = json.dumps({"prompt": "Say hello."}).encode()
    event = Event(
        id="large",
        source="/ingress/t",
        type=names.REQUEST,
        time=past.clock.now().isoformat(),
        datacontenttype="application/json",
        extensions={names.DATA_REF: past.blobs.put(body), names.OPERATION: "completions"},
    )
    past._happened("infer.requests", event)
    past.asked("small")
    for request_id in ("large", "small"):
        past.answered(request_id)
        past.rated(request_id, 1.0)

    def prompts(blobs: MemoryBlobs) -> list[str]:
        rows = outcomes_from_store(past.store, blobs, load_catalogue(CATALOGUE))
        return [row.prompt for row in rows]

    assert prompts(past.blobs) == ["What is a monad?", "Say hello."]
    assert prompts(MemoryBlobs()) == ["What is a monad?"]


def test_a_users_opinion_weighs_twice_a_judges() -> None:
    def said(source: Any, score: float, judge: str = "") -> FeedbackRow:
        return FeedbackRow(
            request_id="r", source=source, judge=judge, model="m", score=score, at=START
        )

    rows = [said("user", 1.0), said("judge", 0.0, "a"), said("judge", 0.0, "b")]
    assert average_scores(rows) == {"m": 0.5}
    assert average_scores(rows[:1]) == {"m": 1.0}
    assert average_scores([]) == {}
