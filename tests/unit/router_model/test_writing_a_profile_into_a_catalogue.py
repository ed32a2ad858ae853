"""Only the profile changes: comments, order and layout of the file stay."""

import pytest

from router_model.catalogue.edit import NotEditable, profile_line, with_profile
from router_model.catalogue.loader import CatalogueRejected, load_catalogue
from router_model.catalogue.model import PROFILES, Profile

FOUND = Profile(alpha=0.55, latency=0.15, cost=1 / 3)
HEAD = """# ours
models:
  - {id: real, weights: {path: /m.gguf}}  # the only one
services: [{model: real}]
"""
BLOCK = f"""{HEAD}profiles:
  # found by hand
  quality: {{alpha: 1, latency: 0.1, cost: 0.1}}   # dear
  plain:
    alpha: 0.5  # half
    cost: 0.25
    latency: 0.25

default_profile: quality
"""
FLOW = (
    f"{HEAD}profiles: {{quality: {{alpha: 1, latency: 0, cost: 0}} }}\ndefault_profile: quality\n"
)


@pytest.mark.parametrize("text", [BLOCK, FLOW, BLOCK.replace("\n", "\r\n")])
@pytest.mark.parametrize("name", ["tuned", "quality", "plain"])
def test_a_profile_is_added_or_changed_and_nothing_else(text: str, name: str) -> None:
    edited = with_profile(text, name, FOUND)
    before, after = load_catalogue(text), load_catalogue(edited)
    assert after.profiles == {**before.profiles, name: FOUND}
    assert after.models == before.models
    for comment in (
        "# ours",
        "# the only one",
        *(("# found by hand", "# dear") if "#" in text else ()),
    ):
        assert text.count(comment) == edited.count(comment)


def test_comments_beside_the_numbers_stay() -> None:
    edited = with_profile(BLOCK, "plain", FOUND)
    assert "    alpha: 0.55  # half\n    cost: 0.3333333333333333\n    latency: 0.15\n" in edited
    assert edited.count("\n") == BLOCK.count("\n")


@pytest.mark.parametrize("text", [HEAD, HEAD.rstrip("\n")])
def test_without_profiles_the_built_in_ones_are_written_beside_it(text: str) -> None:
    assert load_catalogue(with_profile(text, "tuned", FOUND)).profiles == {
        **PROFILES,
        "tuned": FOUND,
    }


def test_writing_twice_is_writing_once() -> None:
    once = with_profile(BLOCK, "tuned", FOUND)
    assert with_profile(once, "tuned", FOUND) == once


@pytest.mark.parametrize("name", ["a: b", "# no", "yes", "{", "1"])
def test_a_name_that_yaml_reads_as_something_else_is_not_written(name: str) -> None:
    with pytest.raises(NotEditable):
        with_profile(BLOCK, name, FOUND)


def test_what_is_no_catalogue_is_not_touched() -> None:
    with pytest.raises(CatalogueRejected):
        with_profile("models: [", "tuned", FOUND)


def test_the_line_is_what_a_person_would_write() -> None:
    assert profile_line("tuned", FOUND) == (
        "tuned: {alpha: 0.55, latency: 0.15, cost: 0.3333333333333333}"
    )
