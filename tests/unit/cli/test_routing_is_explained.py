"""`pickspin route`: the short answer, every term with --explain, and who was not a candidate."""

import json
from typing import Any

import pytest

from functions.cli import main, route_output

CATALOGUE = """
models:
  - {id: small, tier: L1, weights: {path: /s.gguf}, quality: {low: 0.9, medium: 0.7, high: 0.3}}
  - {id: large, tier: L3, weights: {path: /l.gguf}}
  - {id: short, tier: L3, weights: {path: /l.gguf}, context_length: 20, max_tokens: 8}
  - {id: vectors, capabilities: [embeddings], weights: {path: /v.gguf}}
services:
  - {model: small, price_per_hour_usd: 1, tokens_per_s: 100}
  - {model: large, price_per_hour_usd: 36, tokens_per_s: 20, cold_start_s: 20}
  - {model: large, backend: {kind: vllm}, enabled: false}
  - {model: short}
  - {model: vectors}
profiles:
  good: {alpha: 1, latency: 0, cost: 0}
  cheap: {alpha: 1, latency: 1, cost: 2}
default_profile: good
"""
PROMPT = "Prove it."


@pytest.fixture(autouse=True)
def _catalogue(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    path = tmp_path / "catalogue.yaml"
    path.write_text(CATALOGUE)
    monkeypatch.setenv("PICKSPIN_CATALOGUE", str(path))


def said(capsys: Any, *arguments: str) -> str:
    assert main(["route", PROMPT, *arguments]) == 0
    return str(capsys.readouterr().out)


def plain(capsys: Any, *arguments: str) -> Any:
    return json.loads(said(capsys, "--json", *arguments))


def rows_of(out: str) -> dict[str, list[str]]:
    """The cells of each line of the tables, by the first."""
    lines = out.partition("score = ")[2].splitlines()
    rows = [line.removeprefix("> ").split() for line in lines]
    return {row[0]: row for row in rows if row}


def test_the_short_answer_says_service_class_stage_score_and_why(capsys: Any) -> None:
    first, second, third, fourth = said(capsys).splitlines()
    assert first == "large  (model large, score 0.800)"
    assert second.startswith("class high by keyword, which asks for tier L3; asked for as auto")
    assert "profile good" in second
    assert "0.80 chance of a good answer (default of its tier), 33.0" in third
    assert third.endswith("every model asleep")
    assert fourth == "if it fails: small"


def test_explain_shows_every_term_of_every_candidate(capsys: Any) -> None:
    out = said(capsys, "--explain", "--profile", "cheap", "--warm")
    assert out.splitlines()[0] == "small  (model small, score 0.825)"
    assert "score = 0.250 R + 0.250 T^ + 0.500 C^" in out
    rows = rows_of(out)
    assert rows["service"][:6] == ["service", "score", "R", "from", "T^", "C^"]
    assert rows["small"][1:6] == ["0.825", "0.300", "stated", "1.000", "1.000"]
    assert rows["small"][6:14] == [
        "2.76",
        "0.00",
        "0.00",
        "0.00",
        "0.20",
        "2.56",
        "256",
        "0.000192",
    ]
    assert rows["large"][2:4] == ["0.800", "default"]
    assert "decided in " in out


def test_explain_shows_words_of_the_decision_that_no_sentence_tells(
    capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "reason auto:" not in said(capsys, "--explain")
    monkeypatch.setattr(route_output, "_IN_SENTENCES", {"route_class", "score"})
    assert "reason auto: How the model was named" in said(capsys, "--explain")


def test_what_the_learned_classifier_knows_of_a_model_is_said(
    capsys: Any, monkeypatch: pytest.MonkeyPatch, tiny: Any, tmp_path: Any
) -> None:
    monkeypatch.setenv("PICKSPIN_ROUTER_CLASSIFIER", "linear")
    monkeypatch.setenv("PICKSPIN_ROUTER_WEIGHTS", str(tiny.write(tmp_path)))
    found = plain(capsys, "--explain")
    assert (found["route_class"], found["stage"]) == ("high", "linear")
    out = said(capsys, "--explain")
    rows = rows_of(out)
    assert [rows[model][3] for model in ("small", "large")] == ["learned", "learned"]
    assert float(rows["large"][2]) > float(rows["small"][2])


def test_explain_says_why_the_others_were_not_chosen_from(capsys: Any) -> None:
    found = plain(capsys, "--explain", "--max-latency-s", "20", "--max-cost-usd", "1")
    assert found["service"] == "small"
    (dropped,) = found["dropped"]
    assert (dropped["service"], dropped["reason"], dropped["limit"]) == ("large", "max_latency", 20)
    assert found["limits"] == {"max_cost_usd": 1.0, "max_latency_s": 20.0, "min_quality": None}
    assert {one["service"]: one["reason"] for one in found["left_out"]} == {
        "large--vllm": "it is disabled",
        "short": "its context of 20 tokens is too short",
        "vectors": "it does not offer chat",
    }
    text = said(capsys, "--explain", "--max-latency-s", "20")
    assert "max_latency is 20: 33" in text


def test_a_model_that_was_named_is_alone(capsys: Any) -> None:
    found = plain(capsys, "--model", "small", "--explain")
    reasons = {one["service"]: one["reason"] for one in found["left_out"]}
    assert reasons["large"] == "small does not stand for it"
    assert found["asked_model"] == "small"


def test_json_is_the_whole_decision(capsys: Any) -> None:
    found = plain(capsys, "--warm")
    assert (found["route_class"], found["stage"], found["tier"]) == ("high", "keyword", "L3")
    assert found["weights"] == {"relevance": 1.0, "latency": 0.0, "cost": 0.0}
    assert found["models_are"] == "idle"
    assert found["decision_ms"] > 0
    terms = found["candidates"][0]
    parts = terms["parts"]
    whole = sum(parts[name] for name in parts if name.endswith("_s"))
    assert terms["finish_s"] == pytest.approx(whole)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--model", "nobody"], "model_not_found"),
        (["--profile", "nobody"], "invalid_value"),
        (["--min-quality", "0.99"], "constraints_unmet"),
    ],
)
def test_a_refusal_is_one_line(arguments: Any, code: str, capsys: Any) -> None:
    assert main(["route", PROMPT, *arguments]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"pickspin: {code}: ")


def test_a_prompt_that_no_learned_stage_can_judge_is_said_in_words(
    capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PICKSPIN_ROUTER_CLASSIFIER", "linear")
    assert main(["route", "\u13a0\u13b3\u13a9 \u13a6\u13ec\u13c2 " * 20, "--explain"]) == 0
    lines = capsys.readouterr().out.splitlines()
    words = "the learned stage could not judge this prompt; the keyword rules decided: medium"
    assert words in " ".join(line.strip() for line in lines[1:3])
    assert "class medium, which asks for tier L2" in " ".join(lines)
    assert main(["route", "\u13a0\u13b3\u13a9", "--json"]) == 0
    assert "the keyword rules decided" in json.loads(capsys.readouterr().out)["stage_in_words"]
