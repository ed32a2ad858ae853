import gzip
import json

import pytest

from router_model.replay.outcome_dataset import (
    BadOutcomes,
    assign_part,
    hash_question,
    list_outcome_files,
    read_outcomes,
)

ROW = {
    "id": "gsm8k/0",
    "source": "measured",
    "benchmark": "gsm8k",
    "qkey": "792c4f27621a8509",
    "prompt": "How many?",
    "outcomes": {"small": 0, "large": 1},
}


def write(folder, rows, name="measured"):
    folder.mkdir(parents=True, exist_ok=True)
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    text = "\n".join(lines) + "\n"
    (folder / f"{name}.jsonl.gz").write_bytes(gzip.compress(text.encode()))


def test_a_row_is_read_with_what_is_known_of_it(tmp_path):
    known = {"category": "algebra", "out_chars": {"small": 90}, "cost": {"large": 0.01}}
    write(tmp_path, [ROW, {**ROW, **known, "tokens": {"small": [12, 30]}, "native_id": "x"}])
    bare, full = read_outcomes(tmp_path)
    assert (bare.category, bare.out_chars, bare.cost, bare.tokens) == (None, {}, {}, {})
    assert bare.outcomes == {"small": 0, "large": 1}
    assert (full.category, full.cost["large"], full.tokens["small"]) == ("algebra", 0.01, (12, 30))


def test_files_are_found_in_the_folder_outcomes_and_can_be_chosen_by_source(tmp_path):
    write(tmp_path / "outcomes", [ROW], "one")
    write(tmp_path / "outcomes", [{**ROW, "id": "second"}], "two")
    assert list(list_outcome_files(tmp_path)) == ["one", "two"]
    assert [row.id for row in read_outcomes(tmp_path, sources={"two", "absent"})] == ["second"]


@pytest.mark.parametrize(
    "bad",
    [
        "{not json",
        {**ROW, "outcomes": {"small": 1.5}},
        {**ROW, "outcomes": {"small": "yes"}},
        {**ROW, "cost": {"small": -1}},
        {name: value for name, value in ROW.items() if name != "qkey"},
    ],
)
def test_a_bad_row_is_refused_by_file_and_line(tmp_path, bad):
    write(tmp_path, [ROW, bad])
    with pytest.raises(BadOutcomes) as refused:
        list(read_outcomes(tmp_path))
    assert (refused.value.path.name, refused.value.line) == ("measured.jsonl.gz", 2)


def test_a_file_that_breaks_off_is_refused(tmp_path):
    write(tmp_path, [ROW] * 50)
    path = tmp_path / "measured.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(BadOutcomes, match="cannot be read"):
        list(read_outcomes(tmp_path))


def test_a_directory_without_outcomes_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(BadOutcomes):
            list_outcome_files(folder)


def test_a_penalty_below_zero_counts_as_zero(tmp_path):
    write(tmp_path, [{**ROW, "outcomes": {"small": -0.03, "large": 0.5}}])
    (row,) = read_outcomes(tmp_path)
    assert row.outcomes == {"small": 0, "large": 0.5}


def test_the_parts_are_fixed_and_of_the_stated_size():
    parts = [assign_part(f"{number:016x}") for number in range(20_000)]
    assert parts.count("dev") / 20_000 == pytest.approx(0.15, abs=0.01)
    assert parts.count("tune") / 20_000 == pytest.approx(0.10, abs=0.01)
    # Weights are trained without the questions of this part: the cut must never move.
    assert [assign_part(key) for key in ("0", "4", "19")] == ["train", "tune", "dev"]


@pytest.mark.parametrize(
    ("prompt", "key"),
    [
        (
            "Find the degree for the given field extension Q(sqrt(2), sqrt(3), sqrt(18)) over Q.",
            "04d472f5bf05b719",
        ),
        (
            "Write a function to remove all elements from a given list present in another list.",
            "514dd2a46bbcfe12",
        ),
    ],
)
def test_a_question_has_the_key_that_published_data_gives_it(prompt: str, key: str) -> None:
    assert hash_question(prompt) == key
    assert hash_question(f"{prompt}\nA. 0\nB. 4\nC. 2\nAnswer:") == key


def test_a_key_ignores_case_punctuation_width_and_options() -> None:
    plain = hash_question("What is a monad?")
    assert hash_question("  what is ... a MONAD_\n") == plain
    assert hash_question("\uff37hat is a monad") == plain, "W in full width"
    assert hash_question("What is a monad?\nA. a burrito\nB. a monoid") == plain
    assert hash_question("What is a monoid?") != plain
    assert len(hash_question("\ud800")) == 16
