"""`helm lint` has nothing to say, and the notes after an installation say the right things."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.chart.conftest import helm


def test_helm_lint_passes(chart):
    program = Path(sys.executable).with_name("helm")
    done = subprocess.run(
        [program, "lint", ".", "--set", "global.checkOperators=false"],
        cwd=chart,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout


@pytest.fixture
def telling(chart, tmp_path):
    """A copy of the chart whose notes are a manifest: without a cluster Helm shows them nowhere else."""
    copy = tmp_path / "chart"
    shutil.copytree(chart, copy)
    text = '{kind: Notes, apiVersion: v1, said: {{ include "pickspin.notes" . | quote }}}'
    (copy / "templates" / "notes.yaml").write_text(text, encoding="utf-8")
    return copy


def said_after_installing(telling, **service):
    file = telling / "values-given.yaml"
    models = [{"id": "m", "weights": {"path": "/models/m"}}]
    services = [{"model": "m", "backend": {"kind": "vllm"}, **service}]
    catalogue = {"models": models, "services": services}
    values = {"global": {"checkOperators": False, "catalogue": catalogue}}
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    told = ["template", "ps", ".", "-n", "inference", "-f", str(file), "-s", "templates/notes.yaml"]
    return yaml.safe_load(helm(*told, cwd=telling))["said"]


def test_the_notes_say_where_to_look(telling):
    said = said_after_installing(telling)
    assert "1 model service, all" in said
    assert "pickspin doctor --cluster -n inference" in said
    assert "WARNING" not in said


def test_partitions_that_do_not_share_evenly_are_warned_of(telling):
    said = said_after_installing(telling, partitions=7, max_replicas=6)
    assert "7 partitions, a prime" in said
    assert "6 replicas on 7 partitions" in said
