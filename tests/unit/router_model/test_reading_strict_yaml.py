"""YAML that could be read in two ways, or that could hide something, is refused with an explanation."""

import pytest

from router_model.catalogue.strict_yaml import MAX_BYTES, read_yaml


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\ufeffa: 1", "byte order mark"),
        ("", "is empty"),
        ("# nothing\n", "is empty"),
        ("a: 1\n---\nb: 2", "more than one document"),
        ("a: &x 1\nb: *x", "aliases (*x)"),
        ("a: &x [1]", "anchors (&x)"),
        ("a: !!python/object:os.system 1", "tags (tag:yaml.org,2002:python/object:os.system)"),
        ("a: !mine 1", "tags (!mine)"),
        ("<<: {a: 1}", "merge keys"),
        ("a: 1\na: 2", "the key is there twice"),
        ("a:\n\t- 1", "YAML: "),
        ("on: 1", "the key on is not text"),
        ("1: a", "the key 1 is not text"),
        ("? [a]\n: 1", "a key must be text"),
        ("a: no", 'no means false to some YAML readers: write false, or "no" in quotes'),
        ("a: On", "On means true"),
        ("a: 0777", "0777 is read as another number"),
        ("a: 0x1F", "0x1F is read as another number"),
        ("a: 1_000", "1_000 is read as another number"),
        ("a: 12:30", "12:30 is read as another number"),
        ("a: 12:30:45", "durations are seconds"),
        ("a: .inf", ".inf is read as another number"),
        ("a: .nan", ".nan is read as another number"),
        ("a: 2026-11-21", "is a date"),
        ("a: 1111111111111111111111111", "the number is too long"),
        ("[" * 2000, "nested more than"),
        ("a: '", "YAML: "),
        ('a: "\\ud800"', "YAML: "),
        ("a: \x00", "YAML: "),
    ],
)
def test_what_readers_disagree_on_is_refused(text: str, said: str) -> None:
    reading = read_yaml(text)
    assert any(said in str(problem) for problem in reading.problems), reading.problems


def test_an_alias_bomb_is_refused_before_it_is_expanded() -> None:
    levels = "\n".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 9))
    assert read_yaml(f"l0: &l0 [x]\n{levels}").tree is None


def test_more_than_a_mebibyte_is_refused_unread() -> None:
    reading = read_yaml("a: " + "x" * MAX_BYTES)
    assert [problem.message for problem in reading.problems] == [
        f"is larger than {MAX_BYTES} bytes"
    ]


def test_plain_values_keep_their_types() -> None:
    reading = read_yaml('a: 1\nb: 1.5\nc: true\nd: text\ne: "no"\nf: ~\ng: [1, x]\nh: 1e3\ni: -.5')
    assert reading.problems == []
    assert reading.tree == {
        "a": 1, "b": 1.5, "c": True, "d": "text", "e": "no", "f": None, "g": [1, "x"],
        "h": 1000.0, "i": -0.5,
    }  # fmt: skip


def test_problems_name_path_and_line() -> None:
    reading = read_yaml("services:\n  - timeout_s: 12:30\n")
    assert str(reading.problems[0]).startswith("services[0].timeout_s (line 2): ")
