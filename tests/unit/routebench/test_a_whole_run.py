import csv
import gzip
import io
import json

import pytest
from rich.console import Console

from benchmarks.routebench.ours import ShippedRouter
from benchmarks.routebench.reporting import report
from benchmarks.routebench.rules import length_router, random_router
from benchmarks.routebench.running import describe_shipped, load, score_all
from benchmarks.routebench.suites import load_suites
from benchmarks.routebench.writing import write_results
from router_model.classifier.keyword_rules import Classification
from router_model.replay.outcome_dataset import assign_part

SMALL, LARGE = "mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview"


class Knowing:
    """Chances that tell which questions the small model fails: those that hold `hard`."""

    def classify(self, features, models=()):
        is_hard = "hard" in features.text
        return Classification("low", "linear", {SMALL: 0.1 if is_hard else 0.9, LARGE: 0.9})


def write(folder, numbers):
    folder.mkdir()
    lines = []
    for number in numbers:
        is_hard = number % 3 == 0
        row = {
            "id": f"gsm8k/{number}",
            "source": "routellm_gsm8k",
            "benchmark": "gsm8k",
            "qkey": f"{number:016x}",
            "prompt": f"{'hard' if is_hard else 'soft'} {number}",
            "outcomes": {SMALL: float(not is_hard), LARGE: 1.0},
        }
        lines.append(json.dumps(row))
    (folder / "routellm_gsm8k.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    return folder


@pytest.fixture
def suites():
    return load_suites()


def run(data, suites):
    shipped = [ShippedRouter("ours", Knowing(), [SMALL, LARGE])]
    said = []
    results = score_all(data, suites, [random_router(), length_router()], shipped, said.append)
    describe_shipped(data, shipped, results)
    assert "B: ours" in said
    return results


def test_without_test_data_the_dev_part_is_scored_and_the_rest_trains(tmp_path, suites):
    data = load(suites, write(tmp_path / "train", range(600)), None, draws=40)
    (task,) = data.tasks
    assert {assign_part(qkey) for qkey in task.scored.qkeys} == {"dev"}
    assert len(task.train) + len(task.scored) == 600
    assert data.seen == 0
    assert set(data.missing) == {case.name for case in suites.cases} - {"B"}


def test_with_test_data_it_is_scored_whole_and_its_questions_do_not_train(tmp_path, suites):
    train = write(tmp_path / "train", range(300))
    data = load(suites, train, write(tmp_path / "test", range(290, 400)), draws=40)
    (task,) = data.tasks
    assert (len(task.train), len(task.scored)) == (290, 110)
    shared = [f"{number:016x}" for number in range(290, 300)]
    assert data.seen == sum(assign_part(qkey) != "dev" for qkey in shared) > 0


def test_a_router_that_knows_is_above_and_every_figure_is_written(tmp_path, suites):
    data = load(suites, write(tmp_path / "train", range(600)), None, draws=40)
    results = run(data, suites)
    (judged,) = results.suites
    assert (judged.name, judged.verdict) == ("B", "above")
    # The gap closes at the share of hard questions, about 0.4 here: 1 - 0.4 / 2.
    assert judged.value == pytest.approx(0.8, abs=0.05)
    assert set(judged.differences) == {"random", "prompt length"}
    write_results(results, {"draws": 40}, tmp_path / "out")
    written = json.loads((tmp_path / "out" / "results.json").read_text())
    assert written["suites"][0]["verdict"] == "above"
    assert written["shipped"]["ours"]["reasons"] == {"linear": 1.0}
    with (tmp_path / "out" / "metrics.csv").open() as file:
        rows = {row["router"]: row for row in csv.DictReader(file)}
    assert float(rows["ours"]["apgr"]) == pytest.approx(judged.value, abs=1e-3)
    assert float(rows["oracle"]["regret"]) == 0
    assert rows["always large"]["apgr"] == ""


def test_the_report_names_what_is_missing_and_counts_the_suites(tmp_path, suites):
    results = run(load(suites, write(tmp_path / "train", range(600)), None, draws=40), suites)
    console = Console(file=io.StringIO(), width=160)
    report(results, suites, console)
    text = console.file.getvalue()
    assert "case A: missing" in text
    assert "above every honest baseline in 1 of 7 suites (B)" in text
