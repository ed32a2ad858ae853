"""Rows for a terminal: a table where it fits, else blocks; nothing is cut."""

import pytest

from functions.local.columns import format_rows, make_columns

COLUMNS = make_columns(("service", "state", "lag", "why"), numbers=("lag",))
ROWS = [
    ("a-model-with-a-name-that-is-rather-long", "ready", "7", ""),
    (
        "b",
        "failed",
        "12345",
        "start 3 failed: the weights file /models/of/somebody.gguf is not there",
    ),
]


def test_a_table_where_it_fits() -> None:
    assert format_rows(COLUMNS, ROWS, 200) == [
        "service                                  state     lag  why",
        "a-model-with-a-name-that-is-rather-long  ready       7",
        f"b                                        failed  12345  {ROWS[1][-1]}",
    ]


@pytest.mark.parametrize("width", [40, 60, 80])
def test_blocks_where_it_does_not_fit(width: int) -> None:
    lines = format_rows(COLUMNS, ROWS, width)

    assert max(map(len, lines)) <= width
    assert lines[0] == ROWS[0][0]
    assert lines[1] == "  state ready   lag 7"
    words = " ".join(lines).split()
    for row in ROWS:
        assert all(word in words for cell in row for word in cell.split())


def test_a_word_that_is_wider_than_the_terminal_is_left_whole() -> None:
    lines = format_rows(COLUMNS, [("x" * 50, "", "", "y" * 50)], 40)

    assert lines == ["x" * 50, "  why", "  " + "y" * 50]


def test_only_a_name_that_is_too_long_has_a_line_of_its_own() -> None:
    columns = make_columns(("model", "lag"), numbers=("lag",))

    assert format_rows(
        columns, [("a-long-name-of-a-model-that-does-not-fit", "7"), ("b", "8")], 30
    ) == [
        "model                      lag",
        "a-long-name-of-a-model-that-does-not-fit",
        "                             7",
        "b                            8",
    ]


def test_no_rows_have_only_a_head() -> None:
    assert format_rows(COLUMNS, [], 80) == ["service  state  lag  why"]
