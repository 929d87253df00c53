"""A language model as functions of texts: right numbers, whatever the batch."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.data import ByteTokenizer
from rlhf_jax.errors import InputError
from rlhf_jax.evaluation.model_functions import ModelPolicy, padded
from rlhf_jax.models import LanguageModel, ScalarModel, TrunkConfig, init_params
from rlhf_jax.registry import LoadedModel, ModelReward

TOKENIZER = ByteTokenizer()
CONFIG = TrunkConfig(
    vocab_size=258, context_length=64, embed_dim=32, num_layers=2, num_heads=2
)
PROMPTS = ["Hello", "", "a much longer prompt, to be padded", "né"]
COMPLETIONS = [" world", "He sat.", " x", ""]


def loaded(model, params, tokenizer=TOKENIZER):
    return LoadedModel(model, params, tokenizer, {})


def fresh(model, seed):
    return jax.jit(functools.partial(init_params, model))(jax.random.key(seed))


@pytest.fixture(scope="module")
def model():
    return LanguageModel(CONFIG)


@pytest.fixture(scope="module")
def params(model):
    # larger than fresh weights, so that greedy choices are far from ties
    return jax.tree.map(lambda x: 3 * x, fresh(model, 0))


@pytest.fixture(scope="module")
def policy(model, params):
    return ModelPolicy("p", loaded(model, params), max_new_tokens=8, batch_size=3)


@functools.cache
def whole(model):
    """The jitted model on whole sequences, without any mask."""
    return jax.jit(lambda params, tokens: model.apply({"params": params}, tokens))


def expected_logprob(model, params, prompt, completion):
    """One sequence, no padding, full logits, float64 softmax."""
    head = TOKENIZER.encode(prompt) or [TOKENIZER.end_token]
    tail = TOKENIZER.encode(completion)
    tokens = jnp.array(
        [head + tail + [0] * (64 - len(head + tail))], jnp.int32
    )  # causal: no matter
    logits = np.asarray(whole(model)(params, tokens)[0], np.float64)
    logits -= logits.max(-1, keepdims=True)
    logits -= np.log(np.exp(logits).sum(-1, keepdims=True))
    places = range(len(head) - 1, len(head) + len(tail) - 1)
    return sum(logits[t, token] for t, token in zip(places, tail, strict=True))


def test_logprobs_are_those_of_the_unpadded_sequence(model, params, policy):
    sums, counts = policy.logprobs(PROMPTS, COMPLETIONS)
    assert counts.tolist() == [6, 7, 2, 0]
    for found, prompt, completion in zip(sums, PROMPTS, COMPLETIONS, strict=True):
        expected = expected_logprob(model, params, prompt, completion)
        assert found == pytest.approx(expected, abs=1e-4)
    assert sums[3] == 0.0


def test_logprobs_do_not_depend_on_batch_mates(policy):
    together, _ = policy.logprobs(PROMPTS, COMPLETIONS)
    alone = [
        policy.logprobs([p], [c])[0][0]
        for p, c in zip(PROMPTS, COMPLETIONS, strict=True)
    ]
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_what_is_written_at_temperature_0_is_greedy_and_nothing_else_is(policy):
    written = policy.generate(PROMPTS[:3])
    clean = [p for p, t in zip(PROMPTS, written, strict=False) if t and t.isascii()]
    texts = [t for t in written if t and t.isascii()]
    assert policy.is_greedy(clean, texts).all()
    worse = [("b" if t[0] == "a" else "a") + t[1:] for t in texts]
    assert not policy.is_greedy(clean, worse).any()


def test_generation_does_not_depend_on_batch_mates(policy):
    assert policy.generate(PROMPTS) == [policy.generate([p])[0] for p in PROMPTS]


def test_samples_depend_on_the_seed_alone(policy):
    assert policy.sample(PROMPTS, 1) == policy.sample(PROMPTS, 1)
    assert policy.sample(PROMPTS, 1) != policy.sample(PROMPTS, 2)


def test_a_prompt_longer_than_the_context_loses_its_beginning_and_is_counted(
    model, params
):
    functions = ModelPolicy("p", loaded(model, params), 8, 3)
    long = "x" * 200 + "tail"
    sums, _ = functions.logprobs([long], [" y"])
    assert functions.truncated == 1
    assert sums[0] == pytest.approx(functions.logprobs([long[-62:]], [" y"])[0][0])
    assert functions.truncated == 1
    functions.generate([long])
    assert functions.truncated == 2
    with pytest.raises(InputError, match="no room for a prompt"):
        functions.logprobs(["p"], ["y" * 64])
    with pytest.raises(InputError, match="1 prompts for 2 completions"):
        functions.logprobs(["p"], ["y", "z"])


def test_newline_ends_generation_only_when_asked(model, params):
    asked = ModelPolicy("p", loaded(model, params), stop_at_newline=True)
    assert asked._end_tokens() == (256, 10)
    assert ModelPolicy("p", loaded(model, params))._end_tokens() == (256,)


def test_padded_lengths_are_few():
    assert {padded(n, 500) for n in range(1, 501)} == {16, 32, 64, 128, 256, 500}


def test_a_reward_is_the_value_at_the_end_token():
    model = ScalarModel(CONFIG)
    params = fresh(model, 1)
    reward = ModelReward(loaded(model, params), batch_size=3).score
    prompts, responses = ["p", "longer prompt", "q", "r"], ["a", "bcd", "", "x" * 80]
    found = reward(prompts, responses)
    for value, prompt, response in zip(found, prompts, responses, strict=True):
        said = [*TOKENIZER.encode(response), TOKENIZER.end_token][:64]
        ids = TOKENIZER.encode(prompt)[: 64 - len(said)] + said
        tokens = jnp.array([ids + [0] * (64 - len(ids))], jnp.int32)
        values = whole(model)(params, tokens)
        assert value == pytest.approx(float(values[0, len(ids) - 1]), abs=1e-5)
    np.testing.assert_allclose(
        found[1:2], reward(prompts[1:2], responses[1:2]), atol=1e-5
    )


class Spacing(ByteTokenizer):
    """Opens every text with a space, as SentencePiece does; "ab" is one token."""

    def encode(self, text):
        return super().encode((" " + text).replace("ab", "@") if text else "")


def test_a_completion_is_encoded_as_it_stands_behind_its_prompt(model, params):
    functions = ModelPolicy("p", loaded(model, params, Spacing()))
    assert functions._completion_ids("Answer:", " Yes") == list(b" Yes")
    assert functions._completion_ids("a", "b") == list(b" b")  # merging would eat "a"
