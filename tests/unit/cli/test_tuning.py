"""`pickspin tune` from files to a profile: what it prints, what it writes, and what it says when it cannot."""

import gzip
import json
from pathlib import Path

import pytest

from functions.cli import main
from router_model.catalogue.loader import load_catalogue
from router_model.replay.outcome_dataset import assign_part

CATALOGUE = """# mine
models:
  - {id: small, weights: {url: "http://a"}, quality: {low: 0.9, medium: 0.9, high: 0.1}}
  - {id: large, learned_as: L, tier: L3, weights: {url: "http://b"}}
services:
  - {model: small, backend: {kind: openai}, price_per_hour_usd: 1}
  - {model: large, backend: {kind: openai}, price_per_hour_usd: 8}
profiles:
  balanced: {alpha: 0.5, latency: 0.3, cost: 0.3}  # default
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    rows = [
        {"id": f"set/{n}", "source": "set", "benchmark": "set", "qkey": str(n),
         "prompt": f"prove {n}" if n % 3 == 0 else f"hello {n}",
         "outcomes": {"small": float(n % 3 != 0), "L": 1.0}}
        for n in range(300)
    ]  # fmt: skip
    with gzip.open(tmp_path / "set.jsonl.gz", "wt") as out:
        out.writelines(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "catalogue.yaml").write_text(CATALOGUE)
    return tmp_path


def tune(files: Path, *more: str) -> int:
    return main(["tune", "--data", str(files), "--catalogue", str(files / "catalogue.yaml"), *more])


def test_the_best_profile_is_printed_as_json(files: Path, capsys: pytest.CaptureFixture) -> None:
    assert tune(files, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["prompts"] == sum(assign_part(str(n)) == "tune" for n in range(300))
    assert found["winner"]["accuracy"] == 1.0
    assert 0 < found["winner"]["shares"]["small"] < 1
    assert any(one["shares"] == {"small": 1.0} for one in found["front"])
    assert set(found["known"]) == {"balanced"}


def test_the_profile_is_written_into_the_catalogue(
    files: Path, capsys: pytest.CaptureFixture
) -> None:
    path = files / "catalogue.yaml"
    assert tune(files, "--name", "frugal", "--write", str(path)) == 0
    text = path.read_text()
    assert "# mine" in text
    assert "# default" in text
    assert set(load_catalogue(text).profiles) == {"balanced", "frugal"}
    assert "* frugal" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--max-latency-s", "0.001"], "no profile keeps the limits"),
        (["--source", "none"], "no such file"),
        (["--step", "0.3"], "step must divide 1"),
    ],
)
def test_what_cannot_be_tuned_is_one_line(
    files: Path, capsys: pytest.CaptureFixture, more: list[str], said: str
) -> None:
    assert tune(files, *more) == 1
    printed = capsys.readouterr()
    assert said in printed.err
    assert printed.err.count("\n") == 1


def test_a_catalogue_that_cannot_be_edited_is_left_alone(
    files: Path, capsys: pytest.CaptureFixture
) -> None:
    path = files / "catalogue.yaml"
    assert tune(files, "--name", "a: b", "--write", str(path)) == 1
    assert path.read_text() == CATALOGUE
    printed = capsys.readouterr()
    assert "by hand" in printed.err
    assert "alpha:" in printed.out


def test_an_unknown_goal_is_a_usage_error(files: Path) -> None:
    assert tune(files, "--maximise", "fame") == 2
