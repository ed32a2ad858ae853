"""What a person asks first: which version, what is there, what is wrong, what would be used."""

import json
from pathlib import Path
from typing import Any

import pytest

from functions.cli import app, main
from functions.cli.verb_groups import GROUPS
from functions.local.preflight import hold_lock


@pytest.fixture(autouse=True)
def nothing_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PICKSPIN_DATA_DIR", str(tmp_path))
    monkeypatch.delenv("PICKSPIN_BOOTSTRAP", raising=False)
    monkeypatch.setenv("PICKSPIN_PORT", "0")


def said(capsys: Any, *arguments: str, status: int = 0) -> str:
    assert main(list(arguments)) == status
    out: str = capsys.readouterr().out
    return out


def test_the_version(capsys: Any) -> None:
    assert said(capsys, "--version") == said(capsys, "version")


def test_every_verb_is_in_one_group_of_the_help(capsys: Any) -> None:
    names = [name for names in GROUPS.values() for name in names]
    verbs = {one.name or one.callback.__name__ for one in app.registered_commands if one.callback}
    verbs |= {one.name for one in app.registered_groups if isinstance(one.name, str)}

    out = said(capsys, "--help")

    assert sorted(names) == sorted(verbs | ({"settings"} & set(names)))
    assert [line.strip(":") for line in out.splitlines() if line.strip(":") in GROUPS] == [*GROUPS]


def test_settings_are_those_that_up_would_use(capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("PICKSPIN_STORE_URL", "postgresql://me:pa:ss@db/x")
    found = json.loads(said(capsys, "settings", "--json"))

    assert (found["broker"]["kind"], found["broker"]["bootstrap"]) == ("embedded", "")
    assert found["store"]["url"] == "postgresql://me:***@db/x"

    monkeypatch.setenv("PICKSPIN_BOOTSTRAP", "kafka-1:9092")
    found = json.loads(said(capsys, "settings", "--json"))
    assert (found["broker"]["kind"], found["broker"]["bootstrap"]) == ("kafka", "kafka-1:9092")


def test_settings_of_a_single_process(capsys: Any) -> None:
    found = json.loads(said(capsys, "settings", "--process", "--json"))

    assert found["broker"]["kind"] == "kafka"


def test_nothing_is_in_the_way(capsys: Any) -> None:
    lines = said(capsys, "doctor").splitlines()

    assert {line.split()[0] for line in lines} == {"ok"}


def test_what_is_in_the_way_is_named_with_what_to_do(
    capsys: Any, monkeypatch: Any, tmp_path: Path
) -> None:
    catalogue = tmp_path / "catalogue.yaml"
    catalogue.write_text(
        "models: [{id: m, weights: {path: /no/such.gguf}}]\nservices: [{model: m}]\n"
    )
    monkeypatch.setenv("PICKSPIN_CATALOGUE", str(catalogue))
    monkeypatch.setenv("PICKSPIN_API_KEYS", "x")

    out = said(capsys, "doctor", status=1)

    assert "error    settings" in out
    assert "PICKSPIN_API_KEYS: entry 1 is not tenant=key" in out
    assert "model m: there is no /no/such.gguf" in out
    assert out.count("fix: ") == 2
    names = {one["name"]: one["findings"] for one in
             json.loads(said(capsys, "doctor", "--json", status=1))["checks"]}  # fmt: skip
    assert names["data directory"] == []


def test_a_stack_that_runs_and_does_not_answer(
    capsys: Any, monkeypatch: Any, tmp_path: Path
) -> None:
    monkeypatch.setenv("PICKSPIN_PORT", "1")
    with hold_lock(tmp_path):
        out = said(capsys, "doctor", status=1)

    assert "ingress: no ingress answers at http://127.0.0.1:1" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("replay", "--profile", "qualty"), "no profile qualty (did you mean 'quality'?)"),
        (("models", "--url", "nonsense"), "'nonsense' is not http://host:port"),
        (("status", "--url", "ftp://x"), "'ftp://x' is not http://host:port"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(
    arguments: tuple[str, ...], words: str, capsys: Any
) -> None:
    assert main(list(arguments)) != 0

    found = capsys.readouterr()
    assert words in found.err
    assert len(found.err.splitlines()) == 1
