import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_jax.errors import InputError
from rlhf_jax.sampling import Samples, cut_at_stop_strings


def decode(ids):
    """Token i is the letter i, and token 26 the pair "yz"."""
    return "".join("yz" if i == 26 else chr(ord("a") + i) for i in ids)


def samples_of(*rows: list[int], width: int = 8) -> Samples:
    tokens = np.array([row + [0] * (width - len(row)) for row in rows], np.int32)
    lengths = np.array([len(row) for row in rows], np.int32)
    mask = np.arange(width)[None] < lengths[:, None]
    return Samples(tokens, mask, -1.0 * mask, np.zeros(len(rows), bool), lengths)


def test_a_text_ends_before_its_first_stop_string():
    texts, cut = cut_at_stop_strings(
        samples_of([0, 1, 2, 3], [4, 5]), decode, ["d", "c", "x"]
    )
    assert texts == ["ab", "ef"]
    assert cut.lengths.tolist() == [3, 2]  # the token that completed "c" is kept
    assert cut.finished.tolist() == [True, False]
    assert cut.mask[0].tolist() == [True] * 3 + [False] * 5
    assert cut.logprobs[0].tolist() == [-1.0] * 3 + [0.0] * 5


def test_a_stop_string_may_lie_across_and_inside_tokens():
    texts, cut = cut_at_stop_strings(samples_of([0, 26, 1]), decode, ["zb"])
    assert texts == ["ay"] and cut.lengths.tolist() == [3]
    texts, cut = cut_at_stop_strings(samples_of([0, 26, 1]), decode, ["y"])
    assert texts == ["a"] and cut.lengths.tolist() == [2]


def test_a_final_end_token_is_not_in_the_text():
    texts, cut = cut_at_stop_strings(samples_of([0, 25]), decode, [], end_tokens=(25,))
    assert texts == ["a"] and cut.lengths.tolist() == [2]


def test_no_stop_string_changes_nothing():
    samples = samples_of([], [3, 1])
    texts, cut = cut_at_stop_strings(samples, decode, [])
    assert texts == ["", "db"]
    np.testing.assert_array_equal(cut.mask, samples.mask)


def test_an_empty_stop_string_is_refused():
    with pytest.raises(InputError, match="one is empty"):
        cut_at_stop_strings(samples_of([1]), decode, ["a", ""])


@given(st.lists(st.integers(0, 2), max_size=8), st.text("abc", min_size=1, max_size=3))
def test_the_cut_keeps_the_fewest_tokens_that_show_the_stop(ids, stop):
    texts, cut = cut_at_stop_strings(samples_of(ids), decode, [stop])
    whole = decode(ids)
    assert texts[0] == whole.split(stop)[0]
    kept = int(cut.lengths[0])
    if stop in whole:
        assert stop in decode(ids[:kept]) and stop not in decode(ids[: kept - 1])
    else:
        assert kept == len(ids)
