"""Train states for the tests: every kind of leaf that a stage may have."""

import dataclasses
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from rlhf_jax.training import init_state

TX = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-2))


def params(seed=0):
    key = jax.random.key(seed)
    return {
        "trunk": {"kernel": jax.random.normal(key, (8, 16)), "bias": jnp.ones(16)},
        "head": {"kernel": jax.random.normal(key, (16, 1))},
    }


def small(seed=0):
    """A few leaves, quickly saved."""
    return {
        "w": jax.random.normal(jax.random.key(seed), (4, 8)),
        "step": jnp.int32(seed),
    }


def everything(seed=0):
    """A whole train state with typed keys, bfloat16, None, numbers and numpy."""
    key = jax.random.key(seed)
    extra = {
        "kl_coef": jnp.float32(0.2),
        "normaliser": {"mean": np.float64(1.5), "count": np.int64(3), "unset": None},
        "keys": jax.random.split(key, 8),
        "rbg": jax.random.key(seed, impl="rbg"),
        "half": jax.random.normal(key, (3,), jnp.bfloat16),
        "tiny": jnp.ones(4, jnp.float8_e4m3fn),
        "empty": jnp.zeros((0, 4)),
        "flags": np.array([True, False]),
        "iteration": 7,
        "rate": 0.1,
        "done": False,
        "nothing": {},
    }
    return init_state(params(seed), TX, key, ema=True, loss_scale=2.0, extra=extra)


def mesh(count):
    devices = np.array(jax.devices()[:count])
    return Mesh(devices, ("fsdp",), axis_types=(AxisType.Auto,))


def template(tree, count=1):
    """Shapes, dtypes and shardings over `count` devices; rows cut where they divide."""
    devices = mesh(count)

    def leaf(x):
        if not isinstance(x, jax.Array):
            return x
        cut = x.ndim and x.shape[0] and x.shape[0] % count == 0
        sharding = NamedSharding(devices, P("fsdp") if cut else P())
        return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding)

    return jax.tree.map(leaf, tree)


def placed(tree, count):
    """The tree on `count` devices."""
    return jax.tree.map(
        lambda x, t: jax.device_put(x, t.sharding) if isinstance(x, jax.Array) else x,
        tree,
        template(tree, count),
    )


def files(directory):
    """All files below a directory."""
    found = sorted(pathlib.Path(directory).rglob("*"))
    return [path for path in found if path.is_file()]


def copied(directory, target):
    shutil.copytree(directory, target)
    return target


def replaced(state, **changes):
    return dataclasses.replace(state, **changes)
