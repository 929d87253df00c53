"""Layers in the decode loop: one after the other in code, or by a loop over them."""

import dataclasses

import jax
import numpy as np
import pytest

from rlhf_jax.models import LanguageModel, TrunkConfig, init_params
from rlhf_jax.sampling import SamplingSpec, decoding_params, generate
from rlhf_jax.sampling.decoder import MOST_UNROLLED
from rlhf_jax.sampling.generation import rollout_program


@pytest.mark.parametrize("engine", ["static", "continuous"])
def test_scanned_layers_write_what_unrolled_ones_write(
    policy, batch, spec, key, engine
):
    """Two responses per prompt: rows of a stacked cache are repeated and replaced."""
    ids = np.arange(12, dtype=np.int32)
    written = [
        generate(
            policy.model,
            policy.params,
            batch.prompts,
            batch.valid,
            ids,
            key,
            dataclasses.replace(spec, max_new_tokens=40 if engine == "static" else 24),
            engine=engine,
            samples_per_prompt=2,
            unrolled=unrolled,
        )
        for unrolled in (True, False)
    ]
    for name in ("tokens", "mask", "finished", "lengths"):
        one, two = (getattr(samples, name) for samples in written)
        np.testing.assert_array_equal(one, two)
    one, two = (samples.logprobs for samples in written)
    np.testing.assert_allclose(one, two, atol=2e-5)


def size_of(num_layers, **options):
    """Lines of the rollout's program before it is compiled."""
    model = LanguageModel(TrunkConfig(61, 256, 16, num_layers, 2))
    params = jax.eval_shape(lambda: init_params(model, jax.random.key(0)))
    program = rollout_program(model, SamplingSpec(128, end_tokens=(0,)), **options)
    shape = jax.ShapeDtypeStruct
    prompts, rows = (
        (shape((2, 8), "int32"), shape((2, 8), "bool")),
        shape((2,), "int32"),
    )
    key = jax.eval_shape(lambda: jax.random.key(0))
    return program.lower(params, *prompts, rows, rows, key).as_text().count("\n")


def test_a_rollout_does_not_grow_in_proportion_to_depth():
    """By more than a fifth per doubling: what compiling it costs."""
    sizes = {depth: size_of(depth) for depth in (4, 16, 64)}
    assert sizes[64] == sizes[16] < 1.2**2 * sizes[4]
    assert size_of(MOST_UNROLLED) < 1.2**2 * sizes[4]
    unrolled = size_of(64, unrolled=True)
    assert unrolled > 4 * sizes[64], "the test can fail"


def test_layers_that_are_loose_already_stay_so():
    model = LanguageModel(TrunkConfig(61, 64, 16, MOST_UNROLLED + 1, 2))
    params = jax.eval_shape(lambda: init_params(model, jax.random.key(0)))

    def form(**options):
        return jax.eval_shape(lambda p: decoding_params(p, **options), params)

    assert isinstance(form()["trunk"]["layers"], dict)
    loose = form(unrolled=True)
    assert isinstance(loose["trunk"]["layers"], tuple)
    again = jax.eval_shape(decoding_params, loose)
    assert isinstance(again["trunk"]["layers"], tuple)
