"""Gradients of sums: per term, over micro-batches, over devices.

A loss is a sum of values times weights, and the weights of the whole global batch add
to one. So every split of the work adds up: terms, micro-batches and devices are summed
and nothing is divided again.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from rlhf_jax.losses.reduction import normalize

# (params, batch, rng) -> (scalar sum, metrics that also add up)
LossFunction = Callable[[Any, Any, Any], tuple[Float[Array, ""], dict[str, Any]]]


def add_over_devices(tree: Any, axis_name: str | None) -> Any:
    """The sum over a mapped axis (pmap, shard_map); `tree` itself under plain jit."""
    return tree if axis_name is None else jax.lax.psum(tree, axis_name)


def with_weights(batch: Any, axis_name: str | None = None) -> Any:
    """Adds "weights" beside every "mask" of a batch.

        wᵢ = maskᵢ / Σⱼ maskⱼ    over the global batch;  0 where the sum is 0

    Args:
      batch: nested dicts; a "mask" of any shape may stand at any depth.
      axis_name: the mapped axis, where the batch is one device's share.

    Returns:
      The batch with float32 "weights" of the shape of each mask.
    """
    if not isinstance(batch, Mapping):
        return batch
    batch = {name: with_weights(part, axis_name) for name, part in batch.items()}
    if "mask" in batch:
        batch["weights"] = _global_weights(batch["mask"], axis_name)
    return batch


def _global_weights(mask: Array, axis_name: str | None) -> Array:
    if axis_name is None:  # this is the global batch, whatever its layout
        return normalize(mask)
    mask = jnp.asarray(mask).astype(jnp.float32)
    total = jax.lax.psum(mask.sum(), axis_name)
    return mask / jnp.where(total == 0, 1.0, total)


def split_microbatches(batch: Any, count: int) -> Any:
    """[B, ...] -> [count, B / count, ...] with rows dealt out like cards.

    Row i goes to micro-batch i mod `count`. Cutting B into contiguous blocks instead
    would take whole blocks from single devices: the compiler then gathers every row
    on every device.
    """

    def split(rows: Array) -> Array:
        if rows.shape[0] % count:
            raise ValueError(f"{rows.shape[0]} rows do not split in {count}")
        return rows.reshape(-1, count, *rows.shape[1:]).swapaxes(0, 1)

    return jax.tree.map(split, batch)


def term_gradients(
    terms: Mapping[str, LossFunction],
    params: Any,
    batch: Any,
    rng: Key[Array, ""],
    *,
    microbatches: int = 1,
    scale: Float[Array, ""] | float = 1.0,
) -> tuple[dict[str, Any], dict[str, Array], dict[str, Any]]:
    """The gradient of each term, summed over micro-batches.

    Args:
      terms: the loss functions by name.
      params: where to differentiate.
      batch: arrays [B, ...] with weights; rank 0 leaves go to every micro-batch.
      rng: key of this update; micro-batch i gets `fold_in(rng, i)`.
      microbatches: number of micro-batches, run one after the other.
      scale: factor on the losses before differentiation (float16).

    Returns:
      (gradients by term, still scaled; losses by term, unscaled; metrics).
    """
    one = functools.partial(_one_microbatch, terms, params, scale=scale)
    if microbatches == 1:
        return one(batch, jax.random.fold_in(rng, 0))
    leaves, tree = jax.tree.flatten(batch)
    shared = [leaf if jnp.ndim(leaf) == 0 else None for leaf in leaves]
    rows = [leaf if jnp.ndim(leaf) else None for leaf in leaves]
    rows = split_microbatches(rows, microbatches)

    def part(index: Array, rows: list) -> Any:
        both = [s if r is None else r for s, r in zip(shared, rows, strict=True)]
        return one(jax.tree.unflatten(tree, both), jax.random.fold_in(rng, index))

    def body(total: Any, index_and_rows: Any) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, part(*index_and_rows)), None

    first = jax.eval_shape(part, jnp.int32(0), jax.tree.map(lambda x: x[0], rows))
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), first)
    return jax.lax.scan(body, zeros, (jnp.arange(microbatches), rows))[0]


def _one_microbatch(
    terms: Mapping[str, LossFunction],
    params: Any,
    batch: Any,
    rng: Array,
    *,
    scale: Float[Array, ""] | float,
) -> tuple[dict[str, Any], dict[str, Array], dict[str, Any]]:
    gradients, losses, metrics = {}, {}, {}
    for name, loss_fn in terms.items():

        def scaled(params: Any, loss_fn: LossFunction = loss_fn):
            loss, more = loss_fn(params, batch, rng)
            return loss.astype(jnp.float32) * scale, (loss, more)

        gradients[name], (loss, more) = jax.grad(scaled, has_aux=True)(params)
        if again := set(more) & set(metrics):
            raise ValueError(f"two terms give the metrics {sorted(again)}")
        losses[name] = loss.astype(jnp.float32)
        metrics |= {key: jnp.asarray(value) for key, value in more.items()}
    return gradients, losses, metrics
