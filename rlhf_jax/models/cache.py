"""The keys and values of tokens already read: an argument and a result, no state."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from rlhf_jax.models.config import TrunkConfig


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class KVCache:
    """S slots per row. A slot counts only where it is valid.

    Layers are stacked on a leading axis, or a tuple of L arrays: the form must be
    that of the parameters (`unstack_layers`). One token is written in place in either;
    a loop over stacked layers copies the layer that it reads.

    Attributes:
      keys: [L, B, Nkv, S, H], or L of [B, Nkv, S, H]; rotated already.
      values: likewise.
      positions: of the token in each slot.
      valid: true where a slot holds a real token.
      segments: of the token in each slot; 0 without packing.
    """

    keys: Float[Array, "L B Nkv S H"] | tuple[Float[Array, "B Nkv S H"], ...]
    values: Float[Array, "L B Nkv S H"] | tuple[Float[Array, "B Nkv S H"], ...]
    positions: Int[Array, "B S"]
    valid: Bool[Array, "B S"]
    segments: Int[Array, "B S"]

    @property
    def length(self) -> int:
        """S, slots per row."""
        return self.valid.shape[1]

    @property
    def unstacked(self) -> bool:
        """Whether layers are a tuple."""
        return isinstance(self.keys, tuple | list)

    def each(self, change: Callable[[Array, int], Array]) -> "KVCache":
        """A cache of `change(array, axis of the rows)` for every array."""
        inner = functools.partial(change, axis=0 if self.unstacked else 1)
        outer = functools.partial(change, axis=0)
        return KVCache(
            keys=jax.tree.map(inner, self.keys),
            values=jax.tree.map(inner, self.values),
            positions=outer(self.positions),
            valid=outer(self.valid),
            segments=outer(self.segments),
        )


def init_cache(
    config: TrunkConfig,
    batch: int,
    length: int,
    *,
    unstacked: bool = False,
    dtype: str | None = None,
) -> KVCache:
    """An empty cache: nothing is valid.

    Args:
      config: of the trunk.
      batch: B, rows.
      length: S, slots per row [tokens].
      unstacked: a tuple of layers, for parameters by `unstack_layers`.
      dtype: of keys and values; None: config.dtype.
    """
    shape = (batch, config.num_kv_heads, length, config.head_dim)
    dtype = jnp.dtype(dtype or config.dtype)
    count = config.num_layers

    def zeros():
        if unstacked:
            return tuple(jnp.zeros(shape, dtype) for _ in range(count))
        return jnp.zeros((count, *shape), dtype)

    return KVCache(
        keys=zeros(),
        values=zeros(),
        positions=jnp.zeros((batch, length), jnp.int32),
        valid=jnp.zeros((batch, length), bool),
        segments=jnp.zeros((batch, length), jnp.int32),
    )


def grow_cache(cache: KVCache, length: int) -> KVCache:
    """The same cache with empty slots appended up to `length`."""
    more = length - cache.length
    if more < 0:
        raise ValueError(f"cache of {cache.length} slots cannot shrink to {length}")

    def grown(axis):
        def pad(leaf):
            widths = [(0, 0)] * leaf.ndim
            widths[axis] = (0, more)
            return jnp.pad(leaf, widths)

        return pad

    return KVCache(
        keys=jax.tree.map(grown(-2), cache.keys),
        values=jax.tree.map(grown(-2), cache.values),
        positions=grown(1)(cache.positions),
        valid=grown(1)(cache.valid),
        segments=grown(1)(cache.segments),
    )


def written(
    old: Array, new: Array, index: Int[Array, ""] | Int[Array, "B"] | int, axis: int
) -> Array:
    """`old` with `new` written from slot `index` on along `axis`.

    Args:
      old: [B, .., S, ..].
      new: [B, .., T, ..].
      index: first slot: one for all rows, or one per row [B].
      axis: of the slots, counted with the rows' axis.
    """
    new = new.astype(old.dtype)
    if jnp.ndim(index) == 0:
        return jax.lax.dynamic_update_slice_in_dim(old, new, index, axis)
    put = jax.lax.dynamic_update_slice_in_dim
    return jax.vmap(lambda o, n, i: put(o, n, i, axis - 1))(old, new, index)


def written_in_layer(
    old: Float[Array, "L B Nkv S H"],
    new: Float[Array, "B Nkv T H"],
    layer: Int[Array, ""],
    index: Int[Array, ""] | Int[Array, "B"] | int,
) -> Float[Array, "L B Nkv S H"]:
    """`old` with `new` written in one layer, from slot `index` on; the rest stays."""
    if jnp.ndim(index) == 0:
        start = (layer, 0, 0, index, 0)
        return jax.lax.dynamic_update_slice(old, new[None].astype(old.dtype), start)
    one = written(old[layer], new, index, 2)
    return jax.lax.dynamic_update_index_in_dim(old, one, layer, 0)
