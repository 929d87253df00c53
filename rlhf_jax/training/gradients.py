"""Gradients of sums: per term, over micro-batches, over devices.

A loss is a sum of values times weights, and the weights of the whole global batch add
to one. So every split of the work adds up: terms, micro-batches and devices are summed
and nothing is divided again.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from rlhf_jax.errors import InputError
from rlhf_jax.layouts import kept_rows, row_ways
from rlhf_jax.losses.reduction import normalize
from rlhf_jax.parallel import path_name

# (params, batch, rng) -> (scalar sum, metrics that also add up); one with a parameter
# named `frozen` is given the frozen params by that name
LossFunction = Callable[..., tuple[Float[Array, ""], dict[str, Any]]]


def takes_frozen(loss_fn: LossFunction) -> bool:
    """Whether a loss has a parameter named `frozen`."""
    return "frozen" in inspect.signature(loss_fn).parameters


def with_frozen(
    terms: Mapping[str, LossFunction], frozen: Any
) -> dict[str, LossFunction]:
    """The terms as functions of (params, batch, rng) alone.

    Args:
      terms: losses by name; those that take `frozen` are given it.
      frozen: params that no gradient reaches, or None.

    Raises:
      ValueError: a term wants frozen params and there are none, or none wants them.
    """
    wanting = [name for name, loss_fn in terms.items() if takes_frozen(loss_fn)]
    if wanting and frozen is None:
        raise ValueError(f"the terms {wanting} take frozen params: update(.., frozen)")
    if frozen is not None and not wanting:
        raise ValueError("frozen params are given, but no term takes `frozen`")
    return {
        name: functools.partial(loss_fn, frozen=frozen) if name in wanting else loss_fn
        for name, loss_fn in terms.items()
    }


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
        parts = rows.reshape(-1, count, *rows.shape[1:]).swapaxes(0, 1)
        return kept_rows(parts, axis=1)

    return jax.tree.map(split, batch)


def check_microbatches(batch: Any, count: int) -> None:
    """Raises InputError where a micro-batch cannot be cut over the mesh in force.

    Each device would compute all of its rows.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(batch):
        rows = jnp.shape(leaf)[0] // count if jnp.ndim(leaf) else 0
        if rows % row_ways():
            raise InputError(
                f"{path_name(path)}: a micro-batch of {rows} rows ({count} of them) "
                f"cannot be cut over data x fsdp = {row_ways()} devices"
            )


def term_gradients(
    terms: Mapping[str, LossFunction],
    params: Any,
    batch: Any,
    rng: Key[Array, ""],
    *,
    microbatches: int = 1,
    scale: Float[Array, ""] | float = 1.0,
    apart: bool = True,
) -> tuple[dict[str, Any], dict[str, Array], dict[str, Any]]:
    """The gradient of each term, or of their sum, summed over micro-batches.

    Args:
      terms: the loss functions of (params, batch, rng), by name.
      params: where to differentiate.
      batch: arrays [B, ...] with weights; rank 0 leaves go to every micro-batch.
      rng: key of this update; micro-batch i gets `fold_in(rng, i)`.
      microbatches: number of micro-batches, run one after the other.
      scale: factor on the losses before differentiation (float16).
      apart: a gradient per term. Else the terms are added before differentiation, and
        there is one gradient, under the name "sum": one copy instead of one per term.

    Returns:
      (gradients by term, still scaled; losses by term, unscaled; metrics).
    """
    groups = {name: {name: loss} for name, loss in terms.items()}
    if not apart:
        groups = {"sum": dict(terms)}
    one = functools.partial(_one_microbatch, groups, params, scale=scale)
    if microbatches == 1:
        return one(batch, jax.random.fold_in(rng, 0))
    check_microbatches(batch, microbatches)
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
    groups: Mapping[str, Mapping[str, LossFunction]],
    params: Any,
    batch: Any,
    rng: Array,
    *,
    scale: Float[Array, ""] | float,
) -> tuple[dict[str, Any], dict[str, Array], dict[str, Any]]:
    gradients, losses, metrics = {}, {}, {}
    for group, terms in groups.items():

        def scaled(params: Any, terms: Mapping[str, LossFunction] = terms):
            found = {name: loss(params, batch, rng) for name, loss in terms.items()}
            total = sum(loss.astype(jnp.float32) for loss, _ in found.values())
            return total * scale, found

        gradients[group], found = jax.grad(scaled, has_aux=True)(params)
        for name, (loss, more) in found.items():
            if again := set(more) & set(metrics):
                raise ValueError(f"two terms give the metrics {sorted(again)}")
            losses[name] = loss.astype(jnp.float32)
            metrics |= {key: jnp.asarray(value) for key, value in more.items()}
    return gradients, losses, metrics
