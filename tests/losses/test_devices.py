"""One gradient, however the batch is spread: devices, drivers, micro-batches.

The masks are so uneven that the first device holds no trained token and no comparison
at all. Three terms are added: likelihood, the PPO surrogate, the ranking loss.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from rlhf_jax import losses

DEVICES, BATCH, LENGTH, RESPONSES, WIDTH, WORDS = 8, 16, 6, 4, 5, 11


@pytest.fixture(scope="module")
def params() -> dict:
    rng = np.random.default_rng(1)
    shapes = {"embedding": (WORDS, WIDTH), "unembedding": (WORDS, WIDTH)}
    shapes["head"] = (WIDTH,)
    return {n: jnp.asarray(rng.normal(size=s), jnp.float32) for n, s in shapes.items()}


@pytest.fixture(scope="module")
def batch() -> dict:
    rng = np.random.default_rng(0)
    lengths = np.array([0, 0, 1, 0, 6, 6, 0, 1, 2, 0, 0, 0, 5, 1, 0, 3])
    arrays = {
        "inputs": rng.integers(0, WORDS, (BATCH, LENGTH)).astype(np.int32),
        "targets": rng.integers(0, WORDS, (BATCH, LENGTH)).astype(np.int32),
        "old_logprobs": rng.normal(-2, 1, (BATCH, LENGTH)).astype(np.float32),
        "advantages": rng.normal(size=(BATCH, LENGTH)).astype(np.float32),
        "features": rng.normal(size=(BATCH, RESPONSES, WIDTH)).astype(np.float32),
        "ranks": rng.integers(1, RESPONSES + 1, (BATCH, RESPONSES)).astype(np.int32),
        "valid": rng.random((BATCH, RESPONSES)) < 0.9,
        "mask": np.arange(LENGTH) < lengths[:, None],
    }
    pairs = losses.untied_pairs(
        jnp.asarray(arrays["ranks"]), jnp.asarray(arrays["valid"])
    )
    arrays["comparable"] = np.asarray(pairs.any(axis=(1, 2))) & (np.arange(BATCH) > 1)
    # NaN in the responses of the prompts without comparison must not matter either.
    arrays["features"][~arrays["comparable"]] = np.nan
    return {name: jnp.asarray(array) for name, array in arrays.items()}


def weighed(batch: dict) -> dict:
    """The weights of the global batch, made once, before it is spread."""
    return batch | {
        "token_weights": losses.normalize(batch["mask"]),
        "prompt_weights": losses.normalize(batch["comparable"]),
    }


def total(params: dict, batch: dict) -> jax.Array:
    """A sum; it knows nothing of devices."""
    hidden = params["embedding"][batch["inputs"]]
    logprobs = losses.chunked_logprobs(
        hidden, params["unembedding"], batch["targets"], chunk_size=4
    ).logprobs
    surrogate = losses.clipped_policy_loss(
        logprobs, batch["old_logprobs"], batch["advantages"], clip_range=0.2
    )
    # As a reward model would, from features that are sound where a weight falls.
    sound = jnp.where(jnp.isnan(batch["features"]), 0, batch["features"])
    scores = jnp.einsum("bkd,d->bk", sound, params["head"])
    scores = jnp.where(jnp.isnan(batch["features"][..., 0]), jnp.nan, scores)
    ranking = losses.ranking_loss(scores, batch["ranks"], batch["valid"])
    return losses.weighted_sum(
        surrogate - logprobs, batch["token_weights"]
    ) + losses.weighted_sum(ranking, batch["prompt_weights"])


def mesh() -> jax.sharding.Mesh:
    return jax.make_mesh((DEVICES,), ("data",), axis_types=(AxisType.Auto,))


def add_over_devices(gradients):
    return jax.tree.map(lambda g: jax.lax.psum(g, "data"), gradients)


def on_a_mesh(params, batch):
    spread = jax.device_put(weighed(batch), NamedSharding(mesh(), P("data")))
    return jax.jit(jax.grad(total))(params, spread)


def from_a_mesh_without_weights(params, batch):
    """Everything inside the jit: `normalize` sees the global mask by itself."""
    spread = jax.device_put(batch, NamedSharding(mesh(), P("data")))
    return jax.jit(jax.grad(lambda p, b: total(p, weighed(b))))(params, spread)


def by_shard_map(params, batch):
    # Replicated params: their gradient is already the sum over devices.
    mapped = jax.shard_map(
        jax.grad(total), mesh=mesh(), in_specs=(P(), P("data")), out_specs=P()
    )
    return jax.jit(mapped)(params, weighed(batch))


def by_unchecked_shard_map(params, batch):
    mapped = jax.shard_map(
        lambda p, b: add_over_devices(jax.grad(total)(p, b)),
        mesh=mesh(),
        in_specs=(P(), P("data")),
        out_specs=P(),
        check_vma=False,
    )
    return jax.jit(mapped)(params, weighed(batch))


def per_device(batch):
    return jax.tree.map(lambda x: x.reshape(DEVICES, -1, *x.shape[1:]), batch)


def by_pmap(params, batch):
    mapped = jax.pmap(
        lambda p, b: add_over_devices(jax.grad(total)(p, b)),
        axis_name="data",
        in_axes=(None, 0),
    )
    gradients = mapped(params, per_device(weighed(batch)))
    return jax.tree.map(lambda g: g[0], gradients)


def by_microbatches(params, batch, count):
    parts = jax.tree.map(
        lambda x: x.reshape(-1, count, *x.shape[1:]).swapaxes(0, 1), weighed(batch)
    )

    def add(sums, part):
        return jax.tree.map(jnp.add, sums, jax.grad(total)(params, part)), None

    zeros = jax.tree.map(jnp.zeros_like, params)
    return jax.jit(lambda parts: jax.lax.scan(add, zeros, parts)[0])(parts)


@pytest.fixture(scope="module")
def expected(params, batch) -> dict:
    gradients = jax.jit(jax.grad(total))(params, weighed(batch))
    assert all(np.isfinite(g).all() and np.any(g) for g in gradients.values())
    return gradients


def off_by(gradients: dict, expected: dict) -> float:
    """The largest difference, relative to the largest entry of the true gradient."""
    return max(
        float(np.abs(gradients[name] - expected[name]).max())
        / float(np.abs(expected[name]).max())
        for name in expected
    )


def test_the_first_device_holds_nothing_that_is_trained(batch):
    shares = per_device(weighed(batch))
    assert not shares["token_weights"][0].any()
    assert not shares["prompt_weights"][0].any()


@pytest.mark.parametrize(
    "spread",
    [
        on_a_mesh,
        from_a_mesh_without_weights,
        by_shard_map,
        by_unchecked_shard_map,
        by_pmap,
        functools.partial(by_microbatches, count=2),
        functools.partial(by_microbatches, count=4),
        functools.partial(by_microbatches, count=8),
    ],
    ids=lambda f: getattr(f, "__name__", None) or f"microbatches-{f.keywords['count']}",
)
def test_the_gradient_does_not_depend_on_how_the_batch_is_spread(
    spread, params, batch, expected
):
    assert off_by(spread(params, batch), expected) < 1e-5


def test_the_mean_over_devices_of_masked_means_is_far_off(params, batch, expected):
    """The pmap idiom: it is no rounding error, and no factor either."""

    def own_mean(params, share):
        gradients = jax.grad(total)(params, weighed(share))
        return jax.tree.map(lambda g: jax.lax.pmean(g, "data"), gradients)

    mapped = jax.pmap(own_mean, axis_name="data", in_axes=(None, 0))
    naive = jax.tree.map(lambda g: g[0], mapped(params, per_device(batch)))
    assert off_by(naive, expected) > 0.3
    for name, gradient in expected.items():
        best_factor = jnp.vdot(naive[name], gradient) / jnp.vdot(
            naive[name], naive[name]
        )
        naive[name] = naive[name] * best_factor
    assert off_by(naive, expected) > 0.1


def test_chunking_gathers_no_rows_from_other_devices(params, batch):
    """On a sharded batch only gradients travel: all-reduce, and nothing else."""
    spread = jax.device_put(weighed(batch), NamedSharding(mesh(), P("data")))
    whole = jax.device_put(params, NamedSharding(mesh(), P()))
    program = jax.jit(jax.grad(total)).lower(whole, spread).compile().as_text()
    for collective in ("all-gather", "all-to-all", "collective-permute"):
        assert f"{collective}(" not in program
    assert "all-reduce(" in program


@pytest.mark.parametrize("chunk_size", [16, None])  # several chunks; one, kept
def test_a_sharded_vocabulary_is_not_gathered(chunk_size):
    """Each device reads its own words of the logits; only sums travel."""
    both = jax.make_mesh((2, 4), ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)
    put = lambda shape, *axes: jax.device_put(  # noqa: E731
        jnp.ones(shape), NamedSharding(both, P(*axes))
    )
    tokens = put((8, 16), "data").astype(jnp.int32)

    def loss(hidden, unembedding):
        return losses.chunked_logprobs(
            hidden, unembedding, tokens, chunk_size=chunk_size
        ).logprobs.sum()

    gradient = jax.jit(jax.grad(loss, argnums=(0, 1)))
    arrays = put((8, 16, 32), "data"), put((256, 32), "tensor")
    program = gradient.lower(*arrays).compile().as_text()
    assert "all-gather(" not in program and "all-reduce(" in program


def test_whitening_over_a_mesh_is_whitening_over_the_whole_batch(batch):
    values, mask = batch["advantages"], batch["mask"]
    spread = jax.device_put((values, mask), NamedSharding(mesh(), P("data")))
    whitened = jax.jit(losses.masked_whiten)(*spread)
    np.testing.assert_allclose(whitened, losses.masked_whiten(values, mask), atol=1e-5)
    by_device = jax.vmap(losses.masked_whiten)(*per_device((values, mask)))
    assert np.abs(by_device.reshape(whitened.shape) - whitened).max() > 0.3


def test_advantages_within_a_shard_map_are_those_of_the_whole_batch(batch):
    arrays = batch["advantages"], batch["old_logprobs"], batch["mask"]
    gae = functools.partial(
        losses.generalized_advantages, discount=0.9, gae_lambda=0.95
    )
    mapped = jax.shard_map(gae, mesh=mesh(), in_specs=P("data"), out_specs=P("data"))
    for one, other in zip(jax.jit(mapped)(*arrays), gae(*arrays), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
