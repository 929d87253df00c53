"""Attention kernels of the hardware, behind one switch: `TrunkConfig.attention`.

"xla"     plain array code (`attention.py`), every device: the reference
"cudnn"   cuDNN's fused attention, NVIDIA; bfloat16 or float16, head width a multiple
          of 8 up to 256, no soft cap
"splash"  the Pallas kernel of jax for TPU; windows and soft cap included; lengths
          that are no multiple of 128 are padded

The kernels serve the full forward, training and scoring, whose positions are counted.
Decoding, prefixes, common tokens and explicit positions go through "xla" on every
device. There is no silent fallback: a kernel that the device or the config cannot have
is an error.

On a mesh a kernel runs on each device's rows and heads (the compiler cannot cut it).
Key heads that the tensor axis does not divide are copied until it does.
"""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int

from rlhf_jax.errors import InputError
from rlhf_jax.layouts import (
    BATCH_AXES,
    TENSOR_AXIS,
    axes_in_force,
    platform,
    row_groups,
)
from rlhf_jax.models.attention import Places, visible
from rlhf_jax.models.config import TrunkConfig

_PLATFORM = {"cudnn": ("gpu", "cuda"), "splash": ("tpu",)}
_LANES = 128  # width of a TPU tile


def kernel_attention(
    config: TrunkConfig,
    query: Float[Array, "B T N H"],
    key: Float[Array, "B T Nkv H"],
    value: Float[Array, "B T Nkv H"],
    queries: Places,
    keys: Places,
    window: Int[Array, ""] | None,
    *,
    whole: bool = False,
) -> Float[Array, "B T N H"] | None:
    """Attention of ordered slots by the chosen kernel; None when that is "xla".

    Args:
      config: names the kernel.
      query: scaled already.
      key: rotated already.
      value: what is averaged.
      queries: places of the queries.
      keys: places of the keys; empty slots marked.
      window: of this layer [tokens]; None: all.
      whole: every slot holds a token of its row's one sequence, so that order alone
        decides who sees whom and no mask is made.

    Raises:
      InputError: the kernel cannot run on these devices or with this config.
    """
    if config.attention == "xla":
        return None
    check_kernel(config, platform())
    kernel = functools.partial(splash, config)
    if config.attention == "cudnn":
        kernel = _cudnn_causal if whole and window is None else _cudnn
    return on_each_device(kernel, query, key, value, queries, keys, window)


def on_each_device(
    kernel: Callable[..., Array],
    query: Float[Array, "B T N H"],
    key: Float[Array, "B T Nkv H"],
    value: Float[Array, "B T Nkv H"],
    queries: Places,
    keys: Places,
    window: Int[Array, ""] | None,
) -> Float[Array, "B T N H"]:
    """`kernel` on the rows and heads of each device of the mesh in force.

    Args:
      kernel: `(query, key, value, queries, keys, window)` of whatever sizes.
      Others: as for `kernel_attention`.

    Raises:
      InputError: the tensor axis does not divide the query heads.
    """
    axes = axes_in_force()
    if not axes:
        return kernel(query, key, value, queries, keys, window)
    ways = axes.get(TENSOR_AXIS, 1)
    if query.shape[2] % ways:
        raise InputError(
            f"attention: {query.shape[2]} heads cannot be cut over a tensor axis of "
            f"{ways}; use a divisor, or attention='xla'"
        )
    copies = ways // math.gcd(key.shape[2], ways)
    key, value = (
        jnp.repeat(x, copies, axis=2) if copies > 1 else x for x in (key, value)
    )
    rows = None
    if row_groups(query.shape[0]) > 1:
        rows = tuple(axis for axis in BATCH_AXES if axis in axes)
    heads = PartitionSpec(rows, None, TENSOR_AXIS if ways > 1 else None, None)
    places, whole = PartitionSpec(rows), PartitionSpec()
    mapped = jax.shard_map(
        kernel,
        in_specs=(heads, heads, heads, places, places, whole),
        out_specs=heads,
        axis_names=set(axes_in_force(lone=True)),  # a kernel wants all of them cut
        check_vma=False,
    )
    return mapped(query, key, value, queries, keys, window)


def check_kernel(config: TrunkConfig, platform: str) -> None:
    """Raises `InputError` when `config.attention` cannot run on `platform`."""
    name = config.attention
    if name == "xla":
        return
    if platform not in _PLATFORM[name]:
        raise InputError(
            f"attention={name!r} needs {_PLATFORM[name][0]}, this is {platform}; "
            "use attention='xla'"
        )
    if name == "splash":
        return
    if config.dtype == "float32":
        raise InputError("attention='cudnn' needs dtype bfloat16 or float16")
    if config.head_dim % 8 or config.head_dim > 256:
        raise InputError(
            f"attention='cudnn' needs a head_dim of 8, 16, .. 256, not "
            f"{config.head_dim}"
        )
    if config.attention_soft_cap is not None:
        raise InputError("attention='cudnn' has no soft cap; use attention='xla'")


def _cudnn_causal(query, key, value, queries, keys, window):
    """Without a mask later keys are skipped, not hidden: half of the work."""
    del queries, keys, window
    odd = query.shape[1] % 2
    if odd:  # a slot more at the end, which nobody sees
        pad = ((0, 0), (0, 1), (0, 0), (0, 0))
        query, key, value = (jnp.pad(x, pad) for x in (query, key, value))
    out = jax.nn.dot_product_attention(
        query, key, value, is_causal=True, scale=1.0, implementation="cudnn"
    )
    return out[:, :-1] if odd else out


def _cudnn(query, key, value, queries, keys, window):
    """The mask becomes a bias; lengths are made even, as its backward pass asks."""
    mask = visible(queries, keys, window)
    odd = query.shape[1] % 2
    if odd:
        pad = ((0, 0), (0, 1), (0, 0), (0, 0))
        query, key, value = (jnp.pad(x, pad) for x in (query, key, value))
        mask = jnp.pad(mask, ((0, 0), (0, 1), (0, 1)))
    out = jax.nn.dot_product_attention(
        query, key, value, mask=mask[:, None], scale=1.0, implementation="cudnn"
    )
    return out[:, :-1] if odd else out


def splash(
    config: TrunkConfig,
    query: Float[Array, "B T N H"],
    key: Float[Array, "B T Nkv H"],
    value: Float[Array, "B T Nkv H"],
    queries: Places,
    keys: Places,
    window: Int[Array, ""] | None,
    *,
    interpret: bool = False,
) -> Float[Array, "B T N H"]:
    """The TPU kernel over grouped heads; windows of a config choose among kernels.

    A kernel's mask is fixed at compile time, a layer's window is data inside the scan
    over layers: one branch per distinct window.

    Args:
      interpret: run the kernel as array code, on any device (for tests).
      Others: as for `kernel_attention`.
    """
    length = query.shape[1]
    pad = -length % _LANES
    arrays = [
        jnp.pad(x, ((0, 0), (0, pad), (0, 0), (0, 0))).swapaxes(1, 2)
        for x in (query, key, value)
    ]
    # Empty slots are a segment of their own: no row is without a visible key.
    ids = jnp.pad(keys.segments, ((0, 0), (0, pad)), constant_values=-1)
    distinct = sorted({w or 0 for w in config.windows} or {0})
    branches = [
        functools.partial(_splash_window, config, w, interpret) for w in distinct
    ]
    if len(branches) == 1:
        out = branches[0](*arrays, ids)
    else:
        sizes = jnp.asarray([w or 2**30 for w in distinct], jnp.int32)
        out = jax.lax.switch(jnp.argmax(sizes == window), branches, *arrays, ids)
    return out.swapaxes(1, 2)[:, :length].astype(query.dtype)


def _splash_window(config, window, interpret, query, key, value, ids):
    from jax.experimental.pallas.ops.tpu import splash_attention as tpu

    length, heads = query.shape[2], query.shape[1]
    shape = (length, length)
    one = tpu.LocalMask(shape, (window - 1, 0), 0) if window else tpu.CausalMask(shape)
    groups = heads // key.shape[1]
    kernel = tpu.make_splash_mqa_single_device(
        tpu.MultiHeadMask([one] * groups),
        attn_logits_soft_cap=config.attention_soft_cap,
        residual_checkpoint_name="attention",
        interpret=interpret,
    )
    query = query.reshape(query.shape[0], key.shape[1], groups, length, -1)

    def row(query, key, value, ids):
        segments = tpu.SegmentIds(ids, ids)
        return jax.vmap(lambda q, k, v: kernel(q, k, v, segments))(query, key, value)

    out = jax.vmap(row)(query, key, value, ids)
    return out.reshape(out.shape[0], heads, length, -1)
