"""Every verb of the Makefile works first in a fresh clone: it makes the environment whose programs it runs."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ENVIRONMENT = "no-such-environment"
(PHONY,) = re.findall(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
NEEDS_NONE = {"help", "clean", "cluster-down", "routebench-data"}
"""They run no program of an environment."""


def steps(verb: str) -> list[str]:
    """What make would run for a verb where nothing is set up."""
    told = subprocess.run(
        ["make", "-n", f"VENV={ENVIRONMENT}", verb],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return told.stdout.splitlines()


@pytest.mark.parametrize("verb", PHONY.split())
def test_an_environment_is_made_before_its_programs_run(verb: str) -> None:
    made: set[str] = set()
    used: set[str] = set()
    for step in steps(verb):
        found = set(re.findall(rf"({ENVIRONMENT}[a-z-]*)/bin/", step))
        assert found <= made, f"make {verb} runs a program of {found - made} before it is there"
        used |= found
        made |= set(re.findall(rf"-m venv ({ENVIRONMENT}[a-z-]*)", step))
    assert bool(used) == (verb not in NEEDS_NONE)
