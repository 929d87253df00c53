import types

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_jax.errors import InputError
from rlhf_jax.sampling.prompts import check_prompts, pack_prompts, response_limits

CONFIG = types.SimpleNamespace(context_length=6, vocab_size=13)
PROMPTS = np.arange(1, 13, dtype=np.int32).reshape(2, 6)


@given(st.lists(st.booleans(), min_size=12, max_size=12))
def test_packing_keeps_the_tokens_in_order_at_the_end(flags):
    valid = np.array(flags).reshape(2, 6)
    packed, packed_valid, lengths = pack_prompts(
        jnp.asarray(PROMPTS), jnp.asarray(valid)
    )
    for row in range(2):
        real = PROMPTS[row][valid[row]]
        assert int(lengths[row]) == len(real)
        if len(real):
            assert np.asarray(packed)[row, 6 - len(real) :].tolist() == real.tolist()
            assert int(packed_valid[row].sum()) == len(real)
        else:
            assert packed_valid[row].tolist() == [False] * 5 + [True]


def test_a_row_may_write_its_limit_the_budget_or_the_rest_of_the_context():
    limits = response_limits(
        jnp.array([3, 99, 99, 99, -1]), jnp.array([4] * 3 + [0, 4]), 8, 10
    )
    assert limits.tolist() == [3, 6, 6, 0, 0]
    assert response_limits(None, jnp.array([1, 9, 10, 12]), 8, 10).tolist() == [
        8,
        1,
        0,
        0,
    ]


def check(prompts=PROMPTS, valid=None, row_ids=(0, 1), limits=None, copies=1):
    valid = np.ones(prompts.shape, bool) if valid is None else valid
    limits = None if limits is None else np.array(limits)
    check_prompts(
        prompts, valid, np.array(row_ids), limits, copies=copies, config=CONFIG
    )


def test_an_empty_prompt_is_refused_by_its_row():
    valid = np.ones((2, 6), bool)
    valid[0, 0] = valid[1] = False
    with pytest.raises(InputError, match="row 1 has no token"):
        check(valid=valid)


def test_a_prompt_that_fills_the_context_is_refused_by_its_row():
    valid = np.ones((2, 6), bool)
    valid[1, 0] = False
    with pytest.raises(InputError, match="row 0 leaves no room in a context of 6"):
        check(valid=valid)


def test_a_row_without_a_budget_may_hold_anything():
    valid = np.zeros((2, 6), bool)
    check(valid=valid, limits=[0, 0])


def test_names_that_do_not_match_the_responses_are_refused():
    with pytest.raises(InputError, match=r"row_ids are \(2,\), expected \(6,\)"):
        check(copies=3)
    with pytest.raises(InputError, match="limits"):
        check(limits=[1, 2, 3])
    with pytest.raises(InputError, match="valid"):
        check(valid=np.ones((2, 5), bool))


def test_a_token_outside_the_vocabulary_is_refused_by_its_row():
    prompts = PROMPTS.copy()
    prompts[1, 2] = 13
    valid = np.ones((2, 6), bool)
    valid[:, 0] = False
    with pytest.raises(InputError, match="row 1 has a token outside .* of 13"):
        check(prompts=prompts, valid=valid)
    valid[1, 2] = False  # padding may be anything
    check(prompts=prompts, valid=valid)
