"""On 80 columns nothing of a decision or of a replay is cut: blocks take the place of wide lines."""

import importlib
from typing import Any

import pytest

from functions.cli import main
from functions.cli.replay_output import request_lines, request_lines_head
from router_model.replay.replayed_decisions import Choice, Figures, Redecided

WAS = Choice(
    service="a-service-with-a-rather-long-name",
    model="m",
    measured=Figures(cost_usd=0.000123, seconds=11.85),
    expected=Figures(cost_usd=0.000456, seconds=1.25, answered=0.92),
)
WOULD = Choice(service="b", model="b", expected=Figures(cost_usd=0.1, seconds=2.0, answered=0.5))
FOUND = Redecided(
    id="req_01a232068e3171048c28c83dc151f654", asked_model="auto", was=WAS, would=WOULD
)


def test_a_replayed_request_is_a_block() -> None:
    lines = request_lines(FOUND, 80)

    assert max(map(len, lines)) <= 80
    assert lines[0] == FOUND.id
    assert lines[1].startswith("  a-service-with-a-rather-long-name > b")
    text = " ".join(lines)
    for cell in ("USD =0.000123 ~0.000456 > ~0.100000", "SECONDS =11.85 ~1.25 > ~2.00"):
        assert cell in text
    assert request_lines_head(80) == "(= measured, ~ expected, - not known)"


def test_where_there_is_room_it_is_a_line() -> None:
    assert len(request_lines(FOUND, 200)) == 1
    assert "WOULD BE" in request_lines_head(200)


@pytest.mark.parametrize("width", [80, 120])
def test_every_number_of_an_explanation_is_whole(
    width: int, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PICKSPIN_ROUTER_CLASSIFIER", "keyword")
    wide = [*_explained(capsys)]
    module = importlib.import_module("functions.cli.route")
    monkeypatch.setattr(module, "terminal_width", lambda: width)

    lines = [*_explained(capsys)]

    assert max(map(len, lines)) <= width
    numbers = {word for line in wide for word in line.split() if word.replace(".", "").isdigit()}
    narrow = {word for line in lines for word in line.split()}
    assert len(numbers - narrow) <= 2, "only the two times of deciding differ"


def _explained(capsys: Any) -> list[str]:
    assert main(["route", "What is 2 + 2?", "--explain"]) == 0
    out: str = capsys.readouterr().out
    return out.splitlines()
