"""One name, one thing: what a stem, a class or an import contract names is one thing, and it exists."""

import ast
import re
import tomllib
from collections import defaultdict
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[3]
PACKAGES: Final = ("events", "router_model", "functions")

SHARED_STEMS: Final = {
    # stem: why several modules may have it.
    "main": "the wiring of a process; the folder names the process",
    "errors": "the error type of a layer",
    "requests": "one resource: its events, its endpoints, its rows",
    "batches": "one resource: its endpoints and its rows",
    "callbacks": "one resource: its endpoints and its rows",
    "feedback": "one resource: its endpoints and its rows",
    "settings": "the verb `pickspin settings` shows the settings",
    "models": "the verb `pickspin models` asks the endpoint",
}
GERUNDS: Final = {
    # stem: why it is a noun here.
    "signing": "Standard Webhooks' word",
    "scoring": "the paper's word for Equation 2",
    "paging": "the field's word for lists in pages",
    "kafka_binding": "CloudEvents' word for a transport",
    "head_training": "a stage of training",
    "cross_fitting": "the statistician's word",
    "encoder_widening": "a stage of training",
}


def modules() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def test_a_stem_names_one_module() -> None:
    paths = defaultdict(list)
    for path in modules():
        if path.stem not in {"__init__", "__main__"}:
            paths[path.stem].append(str(path.relative_to(ROOT)))
    shared = {stem: places for stem, places in paths.items() if len(places) > 1}
    assert {stem: places for stem, places in shared.items() if stem not in SHARED_STEMS} == {}
    assert SHARED_STEMS.keys() - shared.keys() == set(), "an exception that nothing needs"


def test_a_module_is_named_for_a_thing() -> None:
    gerunds = {path.stem for path in modules() if path.stem.endswith("ing")}
    assert gerunds == GERUNDS.keys()


def test_a_class_name_means_one_thing() -> None:
    paths = defaultdict(list)
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                paths[node.name].append(str(path.relative_to(ROOT)))
    twice = {name: places for name, places in paths.items() if len(places) > 1}
    assert twice == {}


def test_import_contracts_name_only_what_exists() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"][
        "importlinter"
    ]["contracts"]
    unknown = set()
    for contract in contracts:
        names = [*contract.get("source_modules", []), *contract.get("modules", [])]
        for layer in contract.get("layers", []):
            names += [
                f"{container}.{name}" if container else name
                for container in contract.get("containers", [""])
                for name in re.findall(r"[\w.]+", layer)
            ]
        names += contract.get("containers", [])
        for ignored in contract.get("ignore_imports", []):
            names += [name for name in ignored.split(" -> ") if name.split(".")[0] in PACKAGES]
        unknown |= {name for name in names if not exists(name)}
    assert unknown == set()


def exists(name: str) -> bool:
    path = ROOT / name.replace(".**", "").replace(".*", "").replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()
