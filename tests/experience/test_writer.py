"""What a policy writes, and how far it stands from the first one."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.data.inputs import encode_prompts
from rlhf_jax.errors import InputError
from rlhf_jax.experience import Writer, make_distance, sample_batch
from rlhf_jax.parallel import make_mesh

PROMPTS = ["One", "Two words", "Three of them, no less", "Four"]
KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def first(tiny):
    return tiny.model("pretrain")


@pytest.fixture(scope="module")
def moved(first):
    """The same model with every parameter a little larger."""
    params = jax.tree.map(lambda leaf: 1.2 * leaf, first.params)
    return dataclasses.replace(first, params=params)


def test_the_first_policy_has_not_moved(first):
    distance = make_distance(first.model)
    (batch,) = Writer(first, 6).batches(PROMPTS, KEY)
    nats = distance(first.params, first.params, batch.samples)
    np.testing.assert_array_equal(nats, 0.0)


def test_distance_is_the_kl_over_the_vocabulary_summed_over_the_response(first, moved):
    (batch,) = Writer(moved, 6, batch_size=4).batches(PROMPTS, KEY)
    samples = batch.samples
    tokens = jnp.concatenate([samples["prompts"], samples["tokens"]], axis=1)
    valid = jnp.concatenate([samples["valid"], samples["mask"]], axis=1)
    start = samples["prompts"].shape[1] - 1

    def logprobs(params):
        logits = first.model.apply({"params": params}, tokens, valid)
        return np.asarray(jax.nn.log_softmax(logits), np.float64)[:, start:-1]

    p, q = logprobs(moved.params), logprobs(first.params)
    expected = ((np.exp(p) * (p - q)).sum(-1) * np.asarray(samples["mask"])).sum(1)
    nats = make_distance(first.model)(moved.params, first.params, samples)
    np.testing.assert_allclose(nats, expected, rtol=1e-4, atol=1e-5)
    assert (np.asarray(nats) > 0).all()


def test_what_is_written_does_not_depend_on_batch_mesh_or_engine(moved):
    alone = Writer(moved, 6, batch_size=1).write(PROMPTS, KEY)
    assert len(set(alone)) > 1
    mesh = make_mesh(devices=jax.devices()[:4], fsdp=4)
    for options in (
        {"batch_size": 3},
        {"batch_size": 64},
        {"batch_size": 2, "engine": "continuous"},
        {"batch_size": 4, "mesh": mesh},
    ):
        assert Writer(moved, 6, **options).write(PROMPTS, KEY) == alone, options


def test_copies_are_the_responses_by_their_numbers(moved):
    """Response j to prompt i is what the prompt given K times has at i·K + j."""
    repeated = [prompt for prompt in PROMPTS for _ in range(3)]
    flat = Writer(moved, 6).write(repeated, KEY)
    assert Writer(moved, 6, batch_size=6).write(PROMPTS, KEY, copies=3) == flat
    assert len(set(flat)) > len(PROMPTS)


def test_copies_read_their_prompt_once(moved, monkeypatch):
    from rlhf_jax.experience import writer

    shapes = []

    def watched(model, params, prompts, *args, **options):
        shapes.append((prompts.shape[0], options["samples_per_prompt"]))
        return real(model, params, prompts, *args, **options)

    real = writer.generate
    monkeypatch.setattr(writer, "generate", watched)
    Writer(moved, 6, batch_size=8).write(PROMPTS, KEY, copies=4)
    assert shapes == [(2, 4), (2, 4)]


def test_a_writer_that_was_cut_writes_only_what_is_missing(moved, tmp_path):
    writer, path = Writer(moved, 6, batch_size=1), tmp_path / "texts.jsonl"
    whole = writer.resumed(path, "a run", PROMPTS, KEY)
    lines = path.read_bytes().splitlines(keepends=True)
    assert len(lines) == 1 + len(PROMPTS)
    path.write_bytes(b"".join(lines[:3]) + lines[3][:7])  # cut within a line
    asked = []

    class Counted(Writer):
        def _batch(self, texts, *args):
            asked.extend(texts)
            return super()._batch(texts, *args)

    again = Counted(moved, 6, batch_size=1).resumed(path, "a run", PROMPTS, KEY)
    assert again == whole == writer.write(PROMPTS, KEY)
    assert len(asked) == len(PROMPTS) - 2
    assert path.read_bytes() == b"".join(lines)
    asked.clear()
    Counted(moved, 6, batch_size=1).resumed(path, "another run", PROMPTS, KEY)
    assert len(asked) == len(PROMPTS)


def test_a_prompt_without_a_token_is_read_as_the_end_of_an_earlier_text(moved):
    if moved.tokenizer.begin_token is None:
        batch = encode_prompts([""], moved.tokenizer, 4)
        assert batch["prompts"][0, -1] == moved.tokenizer.end_token
    assert isinstance(Writer(moved, 6).write([""], KEY)[0], str)


def test_long_prompts_lose_their_beginning_and_are_counted(moved):
    writer = Writer(moved, 6, max_prompt=4)
    long = "one two three four five six seven"
    assert writer.count_too_long([long, "x"]) == 1
    end = moved.tokenizer.decode(moved.tokenizer.encode(long)[-4:])
    assert moved.tokenizer.encode(end) == moved.tokenizer.encode(long)[-4:]
    assert writer.write([long], KEY) == writer.write([end], KEY)


def test_a_budget_that_fills_the_context_is_bad_input(moved):
    with pytest.raises(InputError, match="max_response.*leave no room"):
        Writer(moved, moved.model.config.context_length).write(PROMPTS, KEY)


def test_samples_of_a_batch_repeat_their_prompts(moved):
    batch = encode_prompts(PROMPTS, moved.tokenizer, 12)
    del batch["row"]
    writer = Writer(moved, 5)
    samples = sample_batch(moved.model, moved.params, batch, KEY, writer.spec, copies=2)
    np.testing.assert_array_equal(
        samples["prompts"], np.repeat(batch["prompts"], 2, axis=0)
    )
    assert samples["tokens"].shape == (8, 5)
