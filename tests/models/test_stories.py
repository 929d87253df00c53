"""stories260K, a real pretrained model: its text, its numbers, its loss."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.models import load_pretrained, save_pretrained


@pytest.fixture(scope="module")
def folder(shared_data):
    path = shared_data / "models" / "stories260k"
    if not path.is_dir():
        pytest.skip("models/stories260k is absent")
    return path


@pytest.fixture(scope="module")
def stories(folder):
    return load_pretrained(folder)


@functools.partial(jax.jit, static_argnums=0)
def logits_of(model, params, tokens, valid):
    return model.apply({"params": params}, tokens, valid)


def test_export_and_import_keep_every_bit(stories, folder, tmp_path):
    from safetensors.numpy import load_file

    save_pretrained(tmp_path, stories.config, stories.params, folder)
    name = "model.safetensors"
    theirs, ours = (load_file(place / name) for place in (folder, tmp_path))
    assert theirs.keys() == ours.keys()
    assert all(np.array_equal(theirs[key], ours[key]) for key in theirs)
    assert load_pretrained(tmp_path).config == stories.config
    assert (tmp_path / "tokenizer.json").is_file()


@pytest.fixture(scope="module")
def reference(folder):
    return json.loads((folder / "greedy_reference.json").read_text())


def test_greedy_text_is_the_reference_token_for_token(stories, reference):
    """Each reference token is the arg max after those before it: greedy decoding."""
    ids = [*reference["prompt_ids"], *reference["greedy_ids"]]
    tokens = jnp.asarray([ids], jnp.int32)
    valid = jnp.ones(tokens.shape, bool)
    logits = logits_of(stories.model, stories.params, tokens, valid)[0]
    start = len(reference["prompt_ids"]) - 1
    found = jnp.argmax(logits, axis=-1)[start:-1]
    assert found.tolist() == reference["greedy_ids"]
    for place, first in reference["logits_first8"].items():
        np.testing.assert_allclose(logits[int(place), :8], first, rtol=0, atol=2e-5)
    for place, rows in reference["logits_top8"].items():
        ids, values = [row[0] for row in rows], [row[1] for row in rows]
        found = logits[int(place)][jnp.asarray(ids)]
        np.testing.assert_allclose(found, values, rtol=0, atol=2e-5)


def test_loss_on_tinystories_is_at_the_published_level(stories, folder, shared_data):
    """1.297 nats per token is llama2.c's validation loss of this model."""
    import gzip

    from rlhf_jax.data import load_tokenizer

    file = shared_data / "text_tinystories" / "tinystories-first-500.jsonl.gz"
    if not file.is_file():
        pytest.skip("text_tinystories is absent")
    with gzip.open(file, "rt") as lines:
        texts = [json.loads(next(lines))["text"] for _ in range(64)]
    tokenizer = load_tokenizer(folder)
    tokens, valid = np.zeros((64, 256), np.int32), np.zeros((64, 256), bool)
    for row, text in enumerate(texts):
        ids = [1, *tokenizer.encode(text)][:256]
        tokens[row, : len(ids)], valid[row, : len(ids)] = ids, True
    logits = logits_of(stories.model, stories.params, tokens, valid)
    picked = jnp.take_along_axis(
        jax.nn.log_softmax(logits[:, :-1]), tokens[:, 1:, None], axis=-1
    )[..., 0]
    loss = -float(jnp.where(valid[:, 1:], picked, 0.0).sum()) / valid[:, 1:].sum()
    assert 1.15 < loss < 1.45
