"""A policy of the catalogue: who routes says at start what is wrong with it, and shows what it decided."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from functions.cli import main
from functions.router import main as router_main
from functions.runtime.errors import StartupFailed
from functions.runtime.settings import Settings

CATALOGUE = """
models:
  - {id: a, weights: {path: /a.gguf}, quality: {low: 0.9, medium: 0.9, high: 0.9}}
  - {id: b, weights: {path: /b.gguf}, quality: {low: 0.5, medium: 0.5, high: 0.5}}
services: [{model: a}, {model: b}]
profiles:
  plain: {alpha: 1, latency: 1, cost: 1}
  broken: {alpha: 1, latency: 1, cost: 1, policy: "own_order:Broken"}
default_profile: plain
"""
SOURCE = """
class Backwards:
    def rank(self, candidates, context):
        return candidates[::-1]

class Broken:
    def rank(self, candidates, context):
        return 1 / 0
"""
ABSENT = (
    "policy: the policy 'absent_order:Name' cannot be used: "
    "ModuleNotFoundError: No module named 'absent_order'"
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "own_order", raising=False)
    (tmp_path / "own_order.py").write_text(SOURCE)
    (tmp_path / "c.yaml").write_text(CATALOGUE + "policy: own_order:Backwards\n")
    (tmp_path / "bad.yaml").write_text(CATALOGUE + "policy: absent_order:Name\n")
    return tmp_path


def said(capsys: Any, *arguments: str) -> str:
    assert main(list(arguments)) == 0
    return str(capsys.readouterr().out)


def test_route_says_who_ranked(folder: Path, capsys: Any) -> None:
    verb = ("route", "hello", "--catalogue", str(folder / "c.yaml"), "--explain")
    out = said(capsys, *verb)
    assert out.startswith("b  (model b, ")
    assert "ranked by policy own_order:Backwards; scores are those of equation 2" in out
    plain = json.loads(said(capsys, *verb, "--json"))
    assert (plain["policy"], plain["policy_fault"]) == ("own_order:Backwards", None)


def test_route_says_that_a_policy_failed(folder: Path, capsys: Any) -> None:
    verb = ("route", "hello", "--catalogue", str(folder / "c.yaml"), "--profile", "broken")
    out = said(capsys, *verb)
    assert out.startswith("a  (model a, ")
    assert (
        "policy own_order:Broken failed, equation 2 ranked: it raised ZeroDivisionError "
        "(own_order.py, line 8)"
    ) in " ".join(out.split())


def test_replay_says_who_ranked(folder: Path, capsys: Any) -> None:
    (folder / "bodies.jsonl").write_text(
        '{"model": "auto", "messages": [{"role": "user", "content": "hello"}]}\n'
    )
    verb = ("replay", "--file", str(folder / "bodies.jsonl"))
    verb = (*verb, "--catalogue", str(folder / "c.yaml"))
    assert "1 ranked by policy own_order:Backwards" in " ".join(said(capsys, *verb).split())
    found = json.loads(said(capsys, *verb, "--json"))
    assert found["requests"][0]["would"]["service"] == "b"
    assert found["requests"][0]["decision"]["policy"] == "own_order:Backwards"
    found = json.loads(said(capsys, *verb, "--profile", "broken", "--json"))
    assert found["requests"][0]["would"]["service"] == "a"
    assert found["requests"][0]["decision"]["policy_fault"].startswith("it raised Zero")
    assert found["summary"]["policy_failures"] == 1
    text = " ".join(said(capsys, *verb, "--profile", "broken").split())
    assert "the policy failed 1 times, and equation 2 ranked" in text


@pytest.mark.parametrize(
    "verb",
    [
        ("route", "hello", "--catalogue"),
        ("replay", "--file", "/dev/null", "--catalogue"),
        ("up", "--port", "0", "--catalogue"),
    ],
    ids=lambda verb: verb[0],
)
def test_a_policy_that_does_not_load_stops_the_start(
    folder: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch, verb: tuple[str, ...]
) -> None:
    monkeypatch.setenv("PICKSPIN_DATA_DIR", str(folder / "data"))
    assert main([*verb, str(folder / "bad.yaml")]) == 1
    captured = capsys.readouterr()
    assert ABSENT in captured.err
    assert "Traceback" not in captured.err + captured.out


def test_the_router_does_not_start_with_it(folder: Path) -> None:
    with pytest.raises(StartupFailed, match="the catalogue is rejected: policy: the policy"):
        router_main.run(Settings(catalogue=str(folder / "bad.yaml")))


def test_a_check_of_the_catalogue_names_it_with_its_place(folder: Path, capsys: Any) -> None:
    assert main(["catalogue", "validate", str(folder / "bad.yaml"), "--json"]) == 1
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert f"{problem['path']}: {problem['message']}" == ABSENT
    assert main(["catalogue", "validate", str(folder / "c.yaml")]) == 0
