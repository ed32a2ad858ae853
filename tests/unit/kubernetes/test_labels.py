"""Labels and annotations of Kubernetes are spelled in one module."""

import ast
from pathlib import Path

from functions.kubernetes import labels

ROOT = Path(__file__).parents[3]


def test_no_other_module_spells_a_label() -> None:
    names = {value for value in vars(labels).values() if isinstance(value, str) and "/" in value}
    spelled = {
        (str(path.relative_to(ROOT)), node.value)
        for path in (ROOT / "functions").rglob("*.py")
        if path != Path(labels.__file__)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in names
    }
    assert "pickspin.io/service" in names
    assert spelled == set()
