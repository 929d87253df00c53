"""A language model of a few hundred parameters, its batches and its train state.

Pure jax, stacked layers under scan: what the engine has to cope with, nothing more.
"""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np

from rlhf_jax.training import OptimizerConfig, init_state, make_optimizer, make_update

V, D, L, T, B = 16, 8, 2, 6, 16


def init_params(key):
    keys = jax.random.split(key, 3)
    up = jax.random.normal(keys[1], (L, D, 4 * D)) * D**-0.5
    down = jax.random.normal(keys[2], (L, 4 * D, D)) * (4 * D) ** -0.5
    return {
        "trunk": {
            "token_embed": {"embedding": 0.3 * jax.random.normal(keys[0], (V, D))},
            "layers": {
                "norm": {"scale": jnp.ones((L, D))},
                "mlp": {"up": {"kernel": up}, "down": {"kernel": down}},
            },
        }
    }


def logits(params, tokens):
    trunk = params["trunk"]
    table = trunk["token_embed"]["embedding"]

    def block(x, layer):
        h = x * layer["norm"]["scale"][None, None]
        h = jnp.tanh(h @ layer["mlp"]["up"]["kernel"])
        return x + h @ layer["mlp"]["down"]["kernel"], None

    x, _ = jax.lax.scan(block, table[tokens], trunk["layers"])
    return x @ table.T


def loss_fn(params, batch, rng):
    del rng
    scores = jax.nn.log_softmax(logits(params, batch["tokens"]))
    picked = jnp.take_along_axis(scores, batch["labels"][..., None], -1)[..., 0]
    picked = picked + batch["noise"][:, None] * scores[..., 0]
    trained = batch["weights"]
    return -(jnp.where(trained > 0, picked, 0.0) * trained).sum(), {
        "tokens": batch["mask"].sum()
    }


def batch(step, *, rows=B, seed=0, empty_rows=2):
    """Batch of a step; row i trains i mod T tokens, the first rows none at all."""
    rng = np.random.default_rng([seed, step])
    tokens = rng.integers(0, V, (rows, T + 1)).astype(np.int32)
    lengths = np.arange(rows) % T
    lengths[:empty_rows] = 0
    return {
        "tokens": tokens[:, :-1],
        "labels": tokens[:, 1:],
        "mask": np.arange(T)[None, :] < lengths[:, None],
        "noise": np.zeros(rows, np.float32),
        "row": np.arange(rows) + rows * step,
    }


def optimizer(num_steps=20, **changes):
    config = OptimizerConfig(learning_rate=1e-2, weight_decay=0.1, warmup_steps=3)
    for name, value in changes.items():
        setattr(config, name, value)
    return make_optimizer(config, num_steps)


def init(seed=0, *, tx=None, **kwargs):
    tx = optimizer() if tx is None else tx
    return init_state(
        init_params(jax.random.key(seed)), tx, jax.random.key(7), **kwargs
    )


def make(tx=None, **kwargs):
    tx = optimizer() if tx is None else tx
    return make_update(loss_fn, tx, **({"clip_norm": 1.0} | kwargs))


def bits(tree):
    """A hash of every bit of every leaf."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        digest.update(np.asarray(jax.device_get(leaf)).tobytes())
    return digest.hexdigest()


def largest_difference(a, b):
    """Largest absolute difference between two trees of numbers."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(np.max(np.abs(np.asarray(x) - np.asarray(y)))) for x, y in pairs)
