"""Attention kernels: refused where they cannot run, equal where they are emulated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from families import config_of

from rlhf_jax.errors import InputError
from rlhf_jax.models import LanguageModel, TrunkConfig, init_params
from rlhf_jax.models.attention import NO_TOKEN, Places, Rule, attend
from rlhf_jax.models.kernels import check_kernel, on_each_device, splash
from rlhf_jax.models.sight import grouped, rows, ungrouped
from rlhf_jax.parallel import make_mesh

SMALL = {"vocab_size": 8, "context_length": 8, "embed_dim": 16, "num_layers": 1}


def small(**changes):
    return TrunkConfig(**(SMALL | {"num_heads": 2} | changes))


@pytest.mark.parametrize("name", ["cudnn", "splash"])
def test_a_kernel_of_another_device_is_refused_by_name(name):
    model = LanguageModel(small(attention=name, dtype="bfloat16"))
    params = init_params(LanguageModel(small()), jax.random.key(0))
    with pytest.raises(InputError, match=f"attention='{name}' needs"):
        model.apply({"params": params}, jnp.zeros((1, 4), jnp.int32))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, "needs dtype"),
        ({"dtype": "bfloat16", "head_dim": 12}, "head_dim"),
        ({"dtype": "bfloat16", "attention_soft_cap": 5.0}, "soft cap"),
    ],
)
def test_cudnn_says_what_it_cannot_do(changes, words):
    with pytest.raises(InputError, match=words):
        check_kernel(small(attention="cudnn", **changes), "gpu")
    check_kernel(small(attention="cudnn", dtype="bfloat16"), "gpu")


def test_an_unknown_kernel_is_refused():
    with pytest.raises(InputError, match="attention is 'triton'"):
        small(attention="triton")


@pytest.mark.slow
@pytest.mark.parametrize("window", [None, 40])
def test_the_tpu_kernel_gives_the_reference_attention(window):
    """The kernel as array code; a soft cap, two windows, padding inside a row."""
    config = TrunkConfig(
        **(config_of("gemma2").__dict__ | {"head_dim": 128, "windows": (40, 0)})
    )
    rng = np.random.default_rng(0)
    shape = (1, 150, config.num_heads, 128)
    query = jnp.asarray(rng.normal(size=shape) * 0.1, jnp.float32)
    key, value = jnp.asarray(
        rng.normal(size=(2, 1, 150, config.num_kv_heads, 128)), jnp.float32
    )
    positions = jnp.arange(150, dtype=jnp.int32)[None]
    valid = (positions > 9) & (positions < 140)
    queries = Places(positions, jnp.zeros_like(positions))
    keys = Places(positions, jnp.where(valid, 0, NO_TOKEN))
    found = splash(
        config,
        query,
        key,
        value,
        queries,
        keys,
        jnp.int32(window or 2**30),
        interpret=True,
    )
    expected, _ = attend(
        Rule(config.attention_soft_cap),
        grouped(query, key),
        rows(key),
        rows(value),
        queries,
        keys,
        None if window is None else jnp.int32(window),
    )
    gap = jnp.abs(found - ungrouped(expected, config)).max(axis=(0, 2, 3))
    assert gap[valid[0]].max() < 1e-4


@pytest.mark.gpu
@pytest.mark.skipif(jax.default_backend() != "gpu", reason="needs an NVIDIA GPU")
def test_cudnn_gives_the_reference_logits():
    tokens = jax.random.randint(jax.random.key(0), (2, 33), 0, 40)
    config = small(vocab_size=40, context_length=64, embed_dim=64, dtype="bfloat16")
    params = init_params(LanguageModel(config), jax.random.key(1))
    fast = LanguageModel(TrunkConfig(**(vars(config) | {"attention": "cudnn"})))
    one, two = (
        m.apply({"params": params}, tokens) for m in (LanguageModel(config), fast)
    )
    np.testing.assert_allclose(one, two, atol=0.02)


def plain_kernel():
    """The reference attention in the place of a kernel."""

    def kernel(query, key, value, queries, keys, window):
        sizes.append((query.shape[0], query.shape[2], key.shape[2]))
        rule = Rule(None, ordered=True)
        arrays = grouped(query, key), rows(key), rows(value)
        out, _ = attend(rule, *arrays, queries, keys, window)
        return out.transpose(0, 3, 1, 2, 4).reshape(query.shape)

    sizes = []
    return kernel, sizes


@pytest.mark.parametrize(
    ("shape", "heads", "key_heads", "own"),
    [
        ((2, 2, 2), 8, 4, (1, 4, 2)),
        ((1, 2, 4), 8, 2, (2, 2, 1)),  # two key heads, copied for four devices
        ((1, 8, 1), 4, 1, (4, 4, 1)),  # rows that cannot be cut
    ],
)
def test_a_kernel_runs_on_the_rows_and_heads_of_each_device(
    shape, heads, key_heads, own
):
    rng = np.random.default_rng(0)
    query = jnp.asarray(rng.normal(size=(4, 6, heads, 4)), jnp.float32)
    key, value = jnp.asarray(rng.normal(size=(2, 4, 6, key_heads, 4)), jnp.float32)
    positions = jnp.broadcast_to(jnp.arange(6), (4, 6))
    places = Places(positions, jnp.zeros_like(positions))
    window = None if key_heads == 1 else jnp.int32(3)
    args = (query, key, value, places, places, window)
    kernel, sizes = plain_kernel()
    gradient = jax.grad(
        lambda *a: jnp.square(on_each_device(kernel, *a)).sum(), (0, 1, 2)
    )
    alone = gradient(*args)
    with jax.set_mesh(make_mesh(*shape)):
        mapped = jax.jit(gradient)(*args)
    for one, two in zip(alone, mapped, strict=True):
        np.testing.assert_allclose(one, two, atol=1e-5)
    assert sizes[0] == (4, heads, key_heads) and sizes[-1] == own


def test_heads_that_the_tensor_axis_does_not_divide_are_refused():
    query = jnp.zeros((8, 4, 6, 4))
    with jax.set_mesh(make_mesh(1, 1, 8)), pytest.raises(InputError, match="6 heads"):
        jax.jit(lambda q: on_each_device(None, q, q, q, None, None, None))(query)
