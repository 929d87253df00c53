"""Agreement and aggregation against counting by hand."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_jax.data import Ranking
from rlhf_jax.errors import InputError
from rlhf_jax.feedback import aggregate, krippendorff_alpha, pairwise_agreement

TEXTS = ["a", "b", "c", "d"]


def row(labeler, ranks, texts=None, prompt="p"):
    texts = texts or TEXTS[: len(ranks)]
    return Ranking(
        id=labeler, prompt=prompt, responses=texts, ranks=ranks, labeler=labeler
    )


dense = st.lists(st.integers(1, 4), min_size=4, max_size=4).map(
    lambda ranks: [sorted(set(ranks)).index(r) + 1 for r in ranks]
)


@given(dense, dense)
def test_agreement_is_the_share_of_pairs_ordered_alike(one, other):
    same = counted = 0
    for a, b in itertools.combinations(range(4), 2):
        signs = [np.sign(ranks[a] - ranks[b]) for ranks in (one, other)]
        if all(signs):
            counted += 1
            same += signs[0] == signs[1]
    found = pairwise_agreement([row("x", one), row("y", other)])
    assert found["pairs"] == counted and found["tied"] == 6 - counted
    if counted:
        assert found["agreement"] == pytest.approx(same / counted)
    else:
        assert math.isnan(found["agreement"])


def test_only_rankings_of_the_same_responses_are_compared():
    rows = [
        row("x", [1, 2]),
        row("y", [2, 1], prompt="q"),
        row("z", [1, 2], ["a", "c"]),
    ]
    assert pairwise_agreement(rows)["pairs"] == 0
    shown_otherwise = row("y", [2, 1], ["b", "a"])
    found = pairwise_agreement([row("x", [1, 2]), shown_otherwise])
    assert found == {"agreement": 1.0, "pairs": 1.0, "tied": 0.0}


def test_alpha_is_that_of_the_published_example():
    # Krippendorff 2011, "Computing Krippendorff's alpha-reliability", example C
    none = None
    ratings = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, none, none, none],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, none, 3],
        [none, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, none],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, none],
    ]
    for level, wanted in (("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)):
        assert krippendorff_alpha(ratings, level=level) == pytest.approx(
            wanted, abs=1e-3
        )


def test_alpha_of_nothing_is_no_number_and_of_one_value_is_full():
    assert math.isnan(krippendorff_alpha([]))
    assert math.isnan(krippendorff_alpha([[1, None], [None, 2]]))
    assert krippendorff_alpha([[3, 3], [3, 3]]) == 1.0


@given(dense)
def test_one_labeler_or_several_that_agree_are_left_as_they_are(ranks):
    assert aggregate([row("x", ranks)]).ranks == ranks
    assert aggregate([row("x", ranks), row("y", ranks)]).ranks == ranks


@given(dense)
def test_labelers_who_contradict_each_other_make_ties(ranks):
    turned = [max(ranks) + 1 - rank for rank in ranks]
    assert aggregate([row("x", ranks), row("y", turned)]).ranks == [1, 1, 1, 1]


@given(st.lists(dense, min_size=1, max_size=5), st.permutations(range(4)))
def test_the_order_in_which_responses_were_shown_does_not_matter(tables, order):
    plain = [row(str(i), ranks) for i, ranks in enumerate(tables)]
    texts = [TEXTS[k] for k in order]
    shown = [
        row(str(i), [ranks[k] for k in order], texts) for i, ranks in enumerate(tables)
    ]
    one, other = aggregate(plain), aggregate([plain[0], *shown[1:]])
    assert one.ranks == other.ranks
    assert one.labeler == "+".join(str(i) for i in range(len(tables)))


def test_rankings_of_other_responses_do_not_aggregate():
    with pytest.raises(InputError, match="y ranks other responses than x"):
        aggregate([row("x", [1, 2]), row("y", [1, 2], ["a", "c"])])
    with pytest.raises(InputError, match="at least one"):
        aggregate([])
