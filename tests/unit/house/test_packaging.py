"""What is shipped, what it stands on, and what no file of the repository may say."""

import re
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import events
import functions
import router_model

ROOT = Path(__file__).parents[3]
PACKAGES = ("events", "router_model", "functions")
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built without the network: hatchling comes with the test extra."""
    folder = tmp_path_factory.mktemp("wheel")
    program = "from hatchling.build import build_wheel; import sys; print(build_wheel(sys.argv[1]))"
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return zipfile.ZipFile(folder / done.stdout.strip().splitlines()[-1])


def test_the_wheel_holds_exactly_the_three_packages(wheel):
    top = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" not in name}
    assert top == set(PACKAGES)


def test_the_wheel_carries_the_data_that_the_packages_read(wheel):
    names = set(wheel.namelist())
    assert "functions/local/catalogue.yaml" in names
    assert "router_model/schemas/catalogue.schema.json" in names
    assert any(re.fullmatch(r"events/schemas/.+\.json", name) for name in names)
    assert {f"{package}/py.typed" for package in PACKAGES} <= names


def test_every_package_of_ours_is_ours():
    owners = packages_distributions()
    for package in (events, router_model, functions):
        assert Path(package.__file__).parent == ROOT / package.__name__
        assert set(owners.get(package.__name__, ["pick-and-spin"])) == {"pick-and-spin"}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_a_lock_pins_by_hash_and_brings_no_twin_of_our_packages(lock):
    text = lock.read_text(encoding="utf-8")
    pins = re.findall(r"^([a-z0-9][a-z0-9._-]*)==\S+ \\$", text, flags=re.MULTILINE)
    assert pins
    assert not {"events", "functions", "router-model", "router_model"} & set(pins)
    loose = re.findall(r"^[a-z0-9][^\\\n]*$", text, flags=re.MULTILINE)
    assert not loose, f"without a hash: {loose}"


def test_the_test_lock_contains_the_runtime_lock():
    def pins(name):
        text = (ROOT / "requirements" / name).read_text(encoding="utf-8")
        return set(re.findall(r"^(\S+==\S+) \\$", text, flags=re.MULTILINE))

    assert pins("runtime.lock") <= pins("test.lock")


@pytest.mark.parametrize("lock", ["worker.lock", "functions.lock"])
def test_an_image_has_every_dependency_of_the_processes(lock):
    text = (ROOT / "requirements" / lock).read_text(encoding="utf-8")
    pins = {canonical(name) for name in re.findall(r"^([\w.-]+)==", text, flags=re.MULTILINE)}
    wanted = {
        canonical(re.split(r"[\s\[<>=!~;]", line)[0]) for line in PROJECT["project"]["dependencies"]
    }
    assert not wanted - pins, "run `make lock`"


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


OF_NO_LOCK = {"torch"}
"""Its wheel differs from source to source: `requirements/torch.in` pins the version."""


LOCK_OF = {"kubernetes": "functions.lock", "postgresql": "functions.lock"} | {
    extra: f"{extra}.lock" for extra in ("lint", "bench", "train")
}
EXTRAS = ["", "local", "kubernetes", "postgresql", "test", "lint", "bench", "train"]


@pytest.mark.parametrize("extra", EXTRAS)
def test_every_declared_dependency_is_locked(extra):
    project = PROJECT["project"]
    lines = project["optional-dependencies"][extra] if extra else project["dependencies"]
    lock = LOCK_OF.get(extra, "test.lock")
    text = (ROOT / "requirements" / lock).read_text(encoding="utf-8")
    pins = {canonical(name) for name in re.findall(r"^([\w.-]+)==", text, flags=re.MULTILINE)}
    wanted = {canonical(re.split(r"[\s\[<>=!~;]", line)[0]) for line in lines}
    assert not wanted - pins - OF_NO_LOCK, "run `make lock`"


def test_every_dependency_line_says_why():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = text.split("dependencies = [", 1)[1].split("\ntest = [", 1)[0]
    lines = [line for line in block.splitlines() if line.startswith('  "')]
    assert lines
    assert not [line for line in lines if "#" not in line]


def tracked(*patterns):
    done = subprocess.run(
        ["git", "ls-files", "-z", "--", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).exists()]


MAY_BE_NAMED = {"json-schema.org", "spec.openapis.org"}
"""Hosts that identify a format; nothing is fetched from them."""


def test_no_configuration_file_names_a_host_to_fetch_from():
    found = []
    for path in tracked("*.lock", "*.toml", "*.yaml", "*.yml", "*.json", "*.cfg", "*.ini", "*.in"):
        for host in re.findall(r"https?://([\w.-]+)", path.read_text(encoding="utf-8")):
            is_local = host.startswith("127.0.0.1") or host == "localhost"
            is_made_up = host.endswith(
                (".example", ".example.org", ".example.com", ".test", ".svc")
            )
            if not (is_local or is_made_up or host in MAY_BE_NAMED):
                found.append(f"{path.relative_to(ROOT)}: {host}")
    assert not found


def test_no_lock_names_an_index():
    for lock in LOCKS:
        text = lock.read_text(encoding="utf-8")
        assert not re.search(r"://|--(extra-)?index-url|--find-links|--trusted-host", text), (
            lock.name
        )
