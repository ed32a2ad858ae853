import numpy as np
import pytest

from benchmarks.routebench.bounds import CategoryMean, Oracle
from benchmarks.routebench.questions import Questions
from benchmarks.routebench.rules import bin_edges, keyword_router, length_router, random_router


def questions(prompts, scores, categories=None):
    return Questions(
        tuple(prompts),
        tuple(f"{number:016x}" for number in range(len(prompts))),
        ("b",) * len(prompts),
        tuple(categories or [""] * len(prompts)),
        ("small", "large"),
        np.array(scores, float),
        np.full((len(prompts), 2), np.nan),
    )


def test_the_keyword_rule_sends_harder_words_to_the_strong_model():
    wish = keyword_router().pair_scores(["List the seas.", "Go on.", "Prove it."], "small", "large")
    assert wish.tolist() == [0, 1, 2]


def test_random_has_no_preference():
    assert not np.ptp(random_router().pair_scores(["a", "b b"], "small", "large"))


def test_in_a_pool_a_rule_has_the_success_of_training_prompts_with_a_like_number():
    router = length_router()
    router.fit(questions(["a" * 10] * 200 + ["a" * 900] * 200, [[1, 1]] * 200 + [[0, 1]] * 200))
    (short, long) = router.success(["b" * 10, "b" * 2000], ["small", "large"])
    assert short[0] > 0.9
    assert long[0] < 0.1
    assert short[1] == long[1] == 1


@pytest.mark.parametrize("numbers", [[0.0] * 5, [0.0, 1.0, 2.0] * 9, np.arange(1000.0)])
def test_bins_are_at_most_ten_and_in_order(numbers):
    edges = bin_edges(np.asarray(numbers, float))
    assert len(edges) < 10
    assert (np.diff(edges) > 0).all()


def test_the_hint_and_the_oracle_say_that_they_are_not_honest():
    train = questions(["p", "q"] * 20, [[1, 1], [0, 1]] * 20, ["law", "maths"] * 20)
    scored = questions(["new one", "other"], [[0, 1], [1, 0]], ["maths", "unseen"])
    hint, oracle = CategoryMean(scored), Oracle(scored)
    for router in (hint, oracle):
        router.fit(train)
        assert not router.is_honest
    assert hint.success(["new one"], ["small"])[0, 0] < 0.2
    assert hint.success(["other"], ["small"])[0, 0] == pytest.approx(0.5)
    assert oracle.pair_scores(["new one", "other"], "small", "large").tolist() == [1, -1]
