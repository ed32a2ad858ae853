"""The document of the HTTP interface tells every header of ours."""

import ast
from pathlib import Path

from functions.ingress.api import openapi
from functions.ingress.app import ENDPOINTS

ROOT = Path(__file__).parents[3]
PATHS = openapi.build(ENDPOINTS)["paths"]
CHAT = PATHS["/v1/chat/completions"]["post"]


def named_headers() -> set[str]:
    """Every `x-pickspin-` header that a module of the ingress spells."""
    return {
        node.value
        for path in (ROOT / "functions/ingress").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value.startswith("x-pickspin-")
        and node.value.count(" ") == 0
    }


def test_every_header_that_a_call_may_have_or_an_answer_has_is_told() -> None:
    taken = {
        parameter["name"].lower()
        for path in PATHS.values()
        for endpoint in path.values()
        for parameter in endpoint["parameters"]
        if parameter["in"] == "header"
    }
    given = CHAT["responses"]["200"]["headers"].keys()

    assert "x-pickspin-fallback" in taken
    assert {"x-pickspin-class", "x-pickspin-score", "x-pickspin-reason"} <= given
    assert named_headers() <= taken | given | {"x-pickspin-request-id"}


def test_headers_of_answers_have_a_meaning() -> None:
    assert all(each["description"] for each in CHAT["responses"]["200"]["headers"].values())
