"""The size budget of the house: short modules, short functions, few parameters. Exceptions carry a reason."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGES = ("events", "router_model", "functions")
MODULE_LINES = 450
FUNCTION_LINES = 50
PARAMETERS = 7

ALLOWED: dict[str, str] = {
    # "<path>" or "<path>::<function>": why it may be larger.
    "functions/cli/batch.py::batch": "each parameter is an option of the command line",
    "functions/cli/extend.py::extend": "each parameter is an option of the command line",
    "functions/cli/replay.py::replay": "each parameter is an option of the command line",
    "functions/cli/route.py::route": "each parameter is a word of the command line",
    "functions/cli/up.py::up": "each parameter is an option of the command line",
    "functions/cli/train.py::train": "each parameter is an option of the command line",
    "functions/cli/tune.py::tune": "each parameter is an option of the command line",
    "functions/runtime/telemetry.py::Metrics.__init__": "the table of every metric name, one a line",
}


def modules() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def functions(tree: ast.AST, outer: str = "") -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            name = f"{outer}.{node.name}" if outer else node.name
            if not isinstance(node, ast.ClassDef):
                yield name, node
            yield from functions(node, name)
        else:
            yield from functions(node, outer)


def parameters(node: ast.FunctionDef) -> int:
    found = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return sum(arg.arg not in {"self", "cls"} for arg in found)


def excesses(path: Path) -> Iterator[tuple[str, str]]:
    name = path.relative_to(ROOT).as_posix()
    text = path.read_text(encoding="utf-8")
    lines = text.count("\n")
    if lines > MODULE_LINES:
        yield name, f"{lines} lines, at most {MODULE_LINES}"
    for function, node in functions(ast.parse(text)):
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        if length > FUNCTION_LINES:
            yield f"{name}::{function}", f"{length} lines, at most {FUNCTION_LINES}"
        if parameters(node) > PARAMETERS:
            yield f"{name}::{function}", f"{parameters(node)} parameters, at most {PARAMETERS}"


def test_modules_and_functions_stay_within_the_budget():
    found = [pair for path in modules() for pair in excesses(path) if pair[0] not in ALLOWED]
    assert not found, "\n".join(f"{place}: {what}" for place, what in found)


def test_every_exception_is_still_needed():
    found = {place for path in modules() for place, _ in excesses(path)}
    assert not ALLOWED.keys() - found


@pytest.mark.parametrize("name", ["utils", "common", "helpers", "manager", "base"])
def test_no_module_is_named_for_nothing(name):
    assert not [path for path in modules() if path.stem == name]
