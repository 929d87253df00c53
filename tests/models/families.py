"""The tiny configs of the golden files, and parameters that make every part count."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from rlhf_jax.models import init_params
from rlhf_jax.models.dialects import trunk_config

GOLDEN = pathlib.Path(__file__).parent / "golden"
NAMES = sorted(path.name.removesuffix("_lm") for path in GOLDEN.glob("*_lm"))


def config_of(family):
    """The `TrunkConfig` of a golden language model."""
    file = GOLDEN / f"{family}_lm" / "config.json"
    return trunk_config(json.loads(file.read_text()), str(file))


def loud_params(model, seed=0):
    """Parameters with no zero bias and no unit scale (one draw, nothing compiled)."""
    shapes = jax.eval_shape(lambda: init_params(model, jax.random.key(0)))
    rng = np.random.default_rng(seed)

    def leaf(path, shape):
        middle = 1.0 if path[-1].key == "scale" else 0.0
        noise = 0.3 * rng.normal(size=shape.shape)
        return jnp.asarray(middle + noise, jnp.float32)

    return jax.tree_util.tree_map_with_path(leaf, shapes)


def assert_same_gradients(found, expected):
    """Equal leaf by leaf, up to rounding at the scale of the leaf.

    A leaf whose gradient is 0 by symmetry (a key's bias without rotary positions) has
    rounding alone; the scale of the whole tree is its floor.
    """
    floor = 1e-3 * max(float(jnp.abs(x).max()) for x in jax.tree.leaves(expected))
    for one, two in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
        scale = max(float(jnp.abs(two).max()), floor)
        np.testing.assert_allclose(one / scale, two / scale, atol=2e-5)
