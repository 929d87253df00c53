"""A real pretrained model writes its reference text, token for token."""

import json

import jax
import numpy as np
import pytest

from rlhf_jax.sampling import SamplingSpec, generate, stream


@pytest.fixture(scope="module")
def stories(shared_data):
    from rlhf_jax.models import LanguageModel, load_pretrained

    folder = shared_data / "models" / "stories260k"
    reference = json.loads((folder / "greedy_reference.json").read_text())
    loaded = load_pretrained(folder)
    return LanguageModel(loaded.config), loaded.params, reference


@pytest.mark.parametrize("engine", ["static", "continuous"])
def test_greedy_is_the_reference(stories, engine):
    model, params, reference = stories
    expected = reference["greedy_ids"]
    samples = generate(
        model,
        params,
        np.array([reference["prompt_ids"]], np.int32),
        np.ones((1, len(reference["prompt_ids"])), bool),
        np.array([0]),
        jax.random.key(0),
        SamplingSpec(len(expected), temperature=0),
        engine=engine,
    )
    assert samples.tokens[0].tolist() == expected


def test_the_greedy_stream_is_the_reference(stories):
    model, params, reference = stories
    spec = SamplingSpec(40, temperature=0)
    key = jax.random.key(0)
    written = stream(model, params, reference["prompt_ids"], key, spec)
    assert [token for token, _ in written] == reference["greedy_ids"][:40]
