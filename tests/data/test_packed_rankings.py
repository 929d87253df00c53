"""A ranking in one row: the same tokens, less filler."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_jax.data import ByteTokenizer, Ranking, ranking_stream
from rlhf_jax.errors import InputError

lengths_of = st.lists(
    st.tuples(st.integers(1, 9), st.lists(st.integers(0, 7), min_size=2, max_size=5)),
    min_size=1,
    max_size=12,
)


def stream(lengths, packed=(), **settings):
    rankings = [
        Ranking(
            id=str(i),
            prompt="p" * prompt,
            responses=[chr(97 + j) * n for j, n in enumerate(each)],
            ranks=[1 + j % 2 for j in range(len(each))],
        )
        for i, (prompt, each) in enumerate(lengths)
    ]
    options = {"batch_size": 3, "max_prompt": 9, "max_response": 8, "seed": 1}
    return ranking_stream(
        rankings, ByteTokenizer(), packed=packed, **{**options, **settings}
    )


@given(lengths=lengths_of)
def test_every_ranking_is_there_whole_and_its_responses_can_be_told_apart(lengths):
    ours, plain = stream(lengths, (12, 24)), stream(lengths, None)
    assert ours.steps_per_epoch == plain.steps_per_epoch
    padded = {}
    for step in range(plain.steps_per_epoch):
        batch = plain.batch(step)
        for i, row in enumerate(batch["row"]):
            padded[row] = {key: value[i] for key, value in batch.items()}
    seen = []
    for step in range(ours.steps_per_epoch):
        batch = ours.batch(step)
        for i, row in enumerate(batch["row"]):
            if row < 0:
                assert not batch["present"][i].any()
                assert not batch["valid"][i].any()
                continue
            seen.append(row)
            one = padded[row]
            for key in ("ranks", "present", "mask"):
                np.testing.assert_array_equal(batch[key][i], one[key])
            assert not (batch["common"][i] & ~batch["valid"][i]).any()
            prompt = batch["tokens"][i][batch["common"][i]]
            np.testing.assert_array_equal(prompt, one["prompts"][one["prompt_valid"]])
            for k in np.flatnonzero(one["present"]):
                mine = batch["valid"][i] & ~batch["common"][i]
                mine &= batch["segments"][i] == k
                want = one["responses"][k][one["response_valid"][k]]
                np.testing.assert_array_equal(batch["tokens"][i][mine], want)
                assert batch["ends"][i, k] == np.flatnonzero(mine)[-1]
    assert sorted(seen) == list(range(len(lengths)))


def test_a_batch_has_the_least_length_that_holds_it():
    lengths = [(3, [1, 1]), (3, [2, 2]), (3, [1, 2]), (9, [7, 7, 7]), (2, [1, 1])]
    ours = stream(lengths, (14,), batch_size=2)
    steps = range(ours.steps_per_epoch)
    widths = sorted(ours.batch(i)["tokens"].shape[1] for i in steps)
    assert widths == [14, 14, 9 + 3 * (7 + 1)]  # a response ends with its end token


def test_lengths_that_do_not_rise_are_an_error():
    with pytest.raises(InputError, match="rising"):
        stream([(9, [7, 7])], (14, 12))
