"""Topics and extension attributes are spelled in `events.names`, and nowhere else."""

import ast
from pathlib import Path

import pytest

from events import names

ROOT = Path(__file__).parents[3]
PACKAGES = ("events", "functions", "router_model", "docs")
MODULES = sorted(
    path
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
    if path != ROOT / "events/names.py"
)
WORDS = {
    "attempt", "cascade", "fallback", "generation", "hops", "operation", "priority", "profile",
    "sequence", "service", "tenant", "traceparent", "tracestate",
}  # fmt: skip
"""Attributes that are also words of other things: columns, labels, fields of a body, headers of W3C."""
UNMISTAKABLE = names.ATTRIBUTES.keys() - WORDS
CONSTANTS = {
    name
    for name, value in vars(names).items()
    if name.isupper() and value in list(names.ATTRIBUTES)
}
MOST_TOGETHER = 3
"""So many attributes in one set, list or tuple are one more list of them."""


def spelled_again(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if node.value in UNMISTAKABLE or node.value.startswith(("infer.", ".infer.")):
                found.append(f"{node.lineno}: {node.value}")
        elif isinstance(node, ast.Set | ast.List | ast.Tuple):
            elements = [ast.unparse(element).removeprefix("names.") for element in node.elts]
            listed = [element for element in elements if element in CONSTANTS]
            if len(listed) > MOST_TOGETHER:
                found.append(f"{node.lineno}: {', '.join(listed)}")
    return found


def test_no_module_spells_a_topic_or_lists_attributes() -> None:
    again = {
        str(path.relative_to(ROOT)): spelled
        for path in MODULES
        if (spelled := spelled_again(ast.parse(path.read_text(encoding="utf-8"))))
    }
    assert len(MODULES) > 100
    assert again == {}


@pytest.mark.parametrize(
    "text",
    [
        "x = 'infer.requests'",
        "x = f'infer.model.{slug}'",
        "param = 'replytopic'",
        "OURS = {names.TENANT, names.HOPS, names.SERVICE, names.ATTEMPT}",
        "OURS = (TENANT, HOPS, SERVICE, ATTEMPT)",
    ],
)
def test_another_spelling_is_found(text: str) -> None:
    assert spelled_again(ast.parse(text))


def test_the_table_has_each_attribute_once_and_within_the_rules_of_cloudevents() -> None:
    assert len(CONSTANTS) == len(names.ATTRIBUTES)
    assert all(name.isalnum() and name.islower() and len(name) <= 20 for name in names.ATTRIBUTES)
