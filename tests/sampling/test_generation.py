"""A response is a function of (params, prompt, spec, key, row id) and nothing else."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_jax.errors import InputError
from rlhf_jax.sampling import SamplingSpec, generate

# of conftest.py
ROWS, WIDTH, BUDGET, VOCAB, CONTEXT = 6, 12, 24, 61, 64


def rows_of(samples, rows=slice(None)):
    """What must be equal bit for bit, as numpy."""
    parts = (samples.tokens, samples.mask, samples.finished, samples.lengths)
    return [np.asarray(part)[rows] for part in parts]


def assert_same(samples, reference, rows=slice(None)):
    for part, expected in zip(rows_of(samples), rows_of(reference, rows), strict=True):
        np.testing.assert_array_equal(part, expected)
    np.testing.assert_allclose(
        samples.logprobs, np.asarray(reference.logprobs)[rows], atol=2e-5
    )


@pytest.fixture(scope="module")
def run(policy, batch, spec, key):
    """`generate` on the shared batch; any argument can be replaced."""

    def run(**changes):
        given = {**dataclasses.asdict(batch), "key": key, "spec": spec, **changes}
        names = ("prompts", "valid", "row_ids", "key", "spec")
        positional = [given.pop(name) for name in names]
        return generate(policy.model, policy.params, *positional, **given)

    return run


@pytest.fixture(scope="module")
def reference(run):
    return run()


def test_the_shared_batch_ends_in_every_way(reference):
    """The fixtures are worth their name: ends early, late, and cut by the budget."""
    lengths = np.asarray(reference.lengths)
    assert lengths.min() < BUDGET / 2 and lengths.max() == BUDGET
    assert not np.asarray(reference.finished)[lengths == BUDGET].all()


def test_the_mask_ends_with_the_end_token(reference, spec):
    tokens, mask, finished, lengths = rows_of(reference)
    assert (mask == (np.arange(BUDGET) < lengths[:, None])).all()
    assert (tokens[~mask] == spec.pad_token).all()
    assert (np.asarray(reference.logprobs)[~mask] == 0).all()
    is_end = np.isin(tokens, spec.end_tokens) & mask
    for row in range(ROWS):
        expected = [lengths[row] - 1] if finished[row] else []
        assert np.flatnonzero(is_end[row]).tolist() == expected


def test_sampler_logprobs_are_teacher_forced_logprobs(policy, batch, reference):
    tokens = jnp.concatenate([batch.prompts, reference.tokens], axis=1)
    valid = jnp.concatenate([batch.valid, reference.mask], axis=1)
    logits = policy.model.apply({"params": policy.params}, tokens, valid)
    logprobs = jax.nn.log_softmax(logits[:, WIDTH - 1 : -1])
    forced = jnp.take_along_axis(logprobs, reference.tokens[..., None], -1)[..., 0]
    difference = np.where(reference.mask, forced - reference.logprobs, 0)
    assert np.abs(difference).max() < 1e-5


def test_logprobs_are_of_the_scaled_and_filtered_distribution(policy, batch, run):
    spec = SamplingSpec(8, temperature=0.6, top_k=4)
    samples = run(spec=spec)
    tokens = jnp.concatenate([batch.prompts, samples.tokens], axis=1)
    valid = jnp.concatenate([batch.valid, samples.mask], axis=1)
    logits = policy.model.apply({"params": policy.params}, tokens, valid)
    logits = np.asarray(logits[:, WIDTH - 1 : -1] / 0.6, np.float64)
    fourth = np.sort(logits, axis=-1)[..., -4:-3]
    logits = np.where(logits < fourth, -np.inf, logits)
    forced = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    forced = np.take_along_axis(forced, np.asarray(samples.tokens)[..., None], -1)
    np.testing.assert_allclose(samples.logprobs, forced[..., 0], atol=2e-5)


@settings(max_examples=10)
@given(st.permutations(range(ROWS)), st.integers(1, ROWS))
def test_batch_mates_do_not_change_a_response(run, batch, reference, order, others):
    """Rows in any order; what is not asked for is replaced by another prompt."""
    order = np.array(order)
    prompts, valid = batch.prompts[order].copy(), batch.valid[order].copy()
    prompts[others:], valid[others:] = prompts[0] * 0 + 17, True
    samples = run(prompts=prompts, valid=valid, row_ids=batch.row_ids[order])
    kept = jax.tree.map(lambda leaf: leaf[:others], samples)
    assert_same(kept, reference, order[:others])


@settings(max_examples=10)
@given(st.integers(0, 2**31 - 1))
def test_padding_side_and_holes_do_not_change_a_bit(run, batch, reference, seed):
    rng = np.random.default_rng(seed)
    prompts, valid = np.full_like(batch.prompts, 33), np.zeros_like(batch.valid)
    for row in range(ROWS):
        real = batch.prompts[row][batch.valid[row]]
        places = np.sort(rng.choice(WIDTH, len(real), replace=False))
        prompts[row, places], valid[row, places] = real, True
    samples = run(prompts=prompts, valid=valid)
    for part, expected in zip(
        jax.tree.leaves(samples), jax.tree.leaves(reference), strict=True
    ):
        np.testing.assert_array_equal(part, expected)


def test_more_padding_does_not_change_a_response(run, batch, reference):
    more = ((0, 0), (7, 0))
    samples = run(prompts=np.pad(batch.prompts, more), valid=np.pad(batch.valid, more))
    assert_same(samples, reference)


def test_a_row_alone_writes_what_it_writes_in_a_batch(run, batch, reference):
    row = slice(3, 4)
    samples = run(
        prompts=batch.prompts[row], valid=batch.valid[row], row_ids=batch.row_ids[row]
    )
    assert_same(samples, reference, row)


@settings(max_examples=12)
@given(
    st.lists(st.integers(1, WIDTH), min_size=9, max_size=9),
    st.lists(st.integers(0, BUDGET), min_size=9, max_size=9),
    st.sampled_from([(3, 1), (4, 2), (16, 4)]),
    st.integers(0, 2**31 - 1),
)
def test_every_schedule_gives_the_same_tokens(run, lengths, limits, slots, seed):
    """Continuous = static, over prompt lengths, limits, slots and refill sizes."""
    rng = np.random.default_rng(seed)
    batch = {
        "prompts": rng.integers(10, VOCAB, (9, WIDTH)).astype(np.int32),
        "valid": np.arange(WIDTH)[None] >= WIDTH - np.array(lengths)[:, None],
        "row_ids": rng.integers(0, 2**31 - 1, 9).astype(np.int32),
        "limits": np.array(limits, np.int32),
    }
    continuous = run(**batch, engine="continuous", slots=slots[0], refill=slots[1])
    assert_same(continuous, run(**batch))


@pytest.mark.parametrize("engine", ["static", "continuous"])
def test_samples_of_one_prompt_share_its_prefill(run, batch, engine):
    copies = 3
    row_ids = np.arange(ROWS * copies, dtype=np.int32)
    options = {"slots": 7, "refill": 2} if engine == "continuous" else {}
    shared = run(row_ids=row_ids, samples_per_prompt=copies, engine=engine, **options)
    separate = run(
        prompts=np.repeat(batch.prompts, copies, axis=0),
        valid=np.repeat(batch.valid, copies, axis=0),
        row_ids=row_ids,
    )
    assert_same(shared, separate)
    assert not (shared.tokens[0] == shared.tokens[1]).all()


def test_a_budget_of_many_segments_is_the_same_text(run, batch):
    """The cache grows on the way: a longer budget begins with the shorter's tokens."""
    long = run(spec=SamplingSpec(45))
    short = run(spec=SamplingSpec(10))
    np.testing.assert_array_equal(long.tokens[:, :10], short.tokens)


def test_another_key_or_name_writes_another_text(run, batch, reference):
    other = run(key=jax.random.key(12))
    renamed = run(row_ids=batch.row_ids + 1)
    assert not (other.tokens == reference.tokens).all()
    np.testing.assert_array_equal(
        run(row_ids=batch.row_ids, key=jax.random.key(11)).tokens, reference.tokens
    )
    assert not (renamed.tokens == reference.tokens).all()


@pytest.mark.parametrize("engine", ["static", "continuous"])
def test_temperature_zero_takes_the_largest_logit_each_time(policy, batch, run, engine):
    samples = run(spec=SamplingSpec(8, temperature=0), engine=engine)
    tokens, valid = jnp.asarray(batch.prompts), jnp.asarray(batch.valid)
    forward = jax.jit(lambda t, v: policy.model.apply({"params": policy.params}, t, v))
    width = WIDTH + 8
    more = ((0, 0), (0, 8))
    tokens, valid = jnp.pad(tokens, more), jnp.pad(valid, more)
    for t in range(8):
        largest = jnp.argmax(forward(tokens, valid)[:, WIDTH - 1 + t], axis=-1)
        assert (largest == samples.tokens[:, t]).all()
        here = (jnp.arange(width) == WIDTH + t)[None]
        tokens, valid = jnp.where(here, largest[:, None], tokens), valid | here


def test_greedy_needs_no_key(run, batch):
    spec = SamplingSpec(8, temperature=0)
    first = run(spec=spec, key=jax.random.key(0))
    again = run(spec=spec, key=jax.random.key(1), row_ids=batch.row_ids * 0)
    assert_same(again, first)


def test_each_row_keeps_its_limit(run, reference):
    limits = np.array([0, 1, 2, 3, BUDGET, 99], np.int32)
    samples = run(limits=limits)
    lengths = np.minimum(np.asarray(reference.lengths), limits)
    assert samples.lengths.tolist() == lengths.tolist()
    kept = np.asarray(samples.mask)
    assert (np.asarray(samples.tokens) == np.asarray(reference.tokens))[kept].all()
    assert not samples.finished[0] and not samples.mask[0].any()


def test_a_response_ends_unfinished_at_the_end_of_the_context(run):
    width = CONTEXT - 3
    prompts = np.full((2, width), 20, np.int32)
    valid = np.arange(width)[None] >= np.array([[0], [width - 5]])
    samples = run(
        prompts=prompts,
        valid=valid,
        row_ids=np.array([1, 2]),
        spec=SamplingSpec(BUDGET),
    )
    assert samples.lengths.tolist() == [3, BUDGET]
    assert not samples.finished.any()


@pytest.mark.parametrize("engine", ["static", "continuous"])
def test_a_budget_of_zero_gives_responses_of_no_token(run, engine):
    samples = run(spec=SamplingSpec(0), engine=engine)
    assert samples.tokens.shape == samples.mask.shape == (ROWS, 0)
    assert samples.lengths.tolist() == [0] * ROWS and not samples.finished.any()


@pytest.mark.parametrize("engine", ["static", "continuous"])
def test_a_batch_of_zero_rows_gives_zero_rows(run, batch, engine):
    samples = run(
        prompts=batch.prompts[:0],
        valid=batch.valid[:0],
        row_ids=batch.row_ids[:0],
        engine=engine,
    )
    assert samples.tokens.shape == (0, BUDGET) and samples.lengths.shape == (0,)


def test_an_empty_prompt_is_refused_unless_it_is_a_filler(run, batch):
    valid = batch.valid.copy()
    valid[2] = False
    with pytest.raises(InputError, match="row 2 has no token"):
        run(valid=valid)
    limits = np.array([4, 4, 0, 4, 4, 4], np.int32)
    samples = run(valid=valid, limits=limits)
    assert int(samples.lengths[2]) == 0 and np.isfinite(samples.logprobs).all()


def test_prompts_without_a_column_are_empty_prompts(run):
    with pytest.raises(InputError, match="has no token"):
        run(
            prompts=np.zeros((1, 0), np.int32),
            valid=np.zeros((1, 0), bool),
            row_ids=np.array([0]),
        )


def test_a_prompt_longer_than_the_context_is_refused(run):
    with pytest.raises(InputError, match="no room in a context of 64"):
        run(
            prompts=np.ones((1, CONTEXT + 1), np.int32),
            valid=np.ones((1, CONTEXT + 1), bool),
            row_ids=np.array([0]),
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"engine": "vllm"}, "engine"),
        ({"samples_per_prompt": 0}, "samples_per_prompt"),
        ({"engine": "continuous", "slots": 1, "refill": 2}, "slots"),
        ({"spec": SamplingSpec(4, end_tokens=(VOCAB,))}, "vocabulary"),
    ],
)
def test_a_plan_that_cannot_run_is_refused(run, changes, message):
    with pytest.raises(InputError, match=message):
        run(**changes)
