"""Who sees whom in one call: masks come from positions and validity, never from slots.

A query sees a key that holds a real token, of its own segment or common to all of its
row, not later than itself and within the layer's window. The keys are the call's own,
a cache's, or a prefix's.
"""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from rlhf_jax.models.attention import COMMON, NO_TOKEN, Places, Rule, attend, merged
from rlhf_jax.models.cache import KVCache, written, written_in_layer
from rlhf_jax.models.config import TrunkConfig
from rlhf_jax.models.kernels import kernel_attention
from rlhf_jax.models.positions import token_positions


@dataclasses.dataclass(frozen=True)
class Sight:
    """What every layer of one call shares.

    Attributes:
      config: of the trunk.
      queries: places of this call's tokens.
      keys: the same, empty slots marked.
      ordered: positions were counted, so a later slot is never seen.
      common: some tokens are seen by all segments of their row.
      whole: no slot is empty and a row is one sequence.
      cache: with this call's places written; its keys and values still are the old.
      cache_index: first slot written.
      prefix: read before; one row for K rows of this call.
    """

    config: TrunkConfig
    queries: Places
    keys: Places
    ordered: bool
    common: bool
    whole: bool
    cache: KVCache | None
    cache_index: Int[Array, ""] | Int[Array, "B"] | int | None
    prefix: KVCache | None

    def mixer(self, memory, prefix, window) -> Callable:
        """The attention of one layer.

        Args:
          memory: (keys, values) of the cache in this layer, or None; or (keys, values)
            of all layers, stacked, and which is this.
          prefix: (keys, values) of the prefix in this layer, or None.
          window: of this layer [tokens], or None.

        Returns:
          (query [B,T,N,H], key [B,T,Nkv,H], value) -> (out [B,T,N,H], new memory).
        """

        def mix(query, key, value):
            alone = self.cache is None and prefix is None and not self.common
            if alone and self.ordered:
                fast = kernel_attention(
                    self.config,
                    query,
                    key,
                    value,
                    self.queries,
                    self.keys,
                    window,
                    whole=self.whole,
                )
                if fast is not None:
                    return fast, None
            query, key, value = grouped(query, key), rows(key), rows(value)
            if memory is not None:
                return self._from_cache(query, (key, value), memory, window)
            rule = Rule(self.config.attention_soft_cap, self.ordered, self.common)
            own = attend(rule, query, key, value, self.queries, self.keys, window)
            if prefix is None:
                return ungrouped(own[0], self.config), None
            shared = self._from_prefix(query, prefix, window)
            return ungrouped(merged([shared, own]), self.config), None

        return mix

    def _from_cache(self, query, fresh, memory, window):
        """Writes first, then reads: one attention over all slots."""
        if len(memory) == 3:
            *stacked, layer = memory
            memory = tuple(
                written_in_layer(old, new, layer, self.cache_index)
                for old, new in zip(stacked, fresh, strict=True)
            )
            keys, values = (array[layer] for array in memory)
        else:
            keys, values = memory = tuple(
                written(old, new, self.cache_index, 2)
                for old, new in zip(memory, fresh, strict=True)
            )
        places = cache_places(self.cache)
        rule = Rule(self.config.attention_soft_cap)
        dtype = query.dtype
        out, _ = attend(
            rule,
            query,
            keys.astype(dtype),
            values.astype(dtype),
            self.queries,
            places,
            window,
        )
        return ungrouped(out, self.config), memory

    def _from_prefix(self, query, prefix, window):
        """K rows of queries become one row: each prefix is read, never copied."""
        keys, values = prefix
        count = keys.shape[0]
        copies = query.shape[0] // count
        rule = Rule(self.config.attention_soft_cap)
        positions = self.queries.positions.reshape(count, -1)
        # a prefix is one sequence, and whatever follows it sees it
        queries = Places(positions, jnp.zeros_like(positions))
        places = cache_places(self.prefix)
        # [BK Nkv G T H] -> [B Nkv G KT H]
        folded = query.reshape(count, copies, *query.shape[1:])
        folded = jnp.moveaxis(folded, 1, 3)
        shape = folded.shape
        folded = folded.reshape(*shape[:3], -1, shape[-1])
        out, log_z = attend(rule, folded, keys, values, queries, places, window)
        out = jnp.moveaxis(out.reshape(shape), 3, 1).reshape(query.shape)
        log_z = jnp.moveaxis(log_z.reshape(shape[:-1]), 3, 1)
        return out, log_z.reshape(query.shape[:-1])


def sight(
    config: TrunkConfig,
    valid: Bool[Array, "B T"] | None,
    *,
    shape: tuple[int, int],
    positions: Int[Array, "B T"] | None,
    segments: Int[Array, "B T"] | None,
    common: Bool[Array, "B T"] | None,
    cache: KVCache | None,
    cache_index: Int[Array, ""] | Int[Array, "B"] | int | None,
    prefix: KVCache | None,
) -> Sight:
    """Places of a call's tokens, [B, T] of `shape`; the others are of `Trunk`."""
    whole = valid is None and segments is None
    if valid is None:
        valid = jnp.ones(shape, bool)
    if common is not None:
        if segments is None or cache is not None or prefix is not None:
            raise ValueError("common needs segments, and neither cache nor prefix")
        segments = jnp.where(common, COMMON, segments)
    ordered = positions is None
    if positions is None:
        positions = token_positions(valid, segments, common)
        for past in (cache, prefix):
            if past is not None:
                count = past.valid.sum(axis=1, dtype=jnp.int32)
                count = jnp.repeat(count, valid.shape[0] // count.shape[0])
                positions = positions + count[:, None]
    if segments is None:
        segments = jnp.zeros(valid.shape, jnp.int32)
    if cache is not None:
        cache = _with_places(cache, positions, valid, segments, cache_index)
    return Sight(
        config=config,
        queries=Places(positions, segments),
        keys=Places(positions, jnp.where(valid, segments, NO_TOKEN)),
        ordered=ordered,
        common=common is not None,
        whole=whole,
        cache=cache,
        cache_index=cache_index,
        prefix=prefix,
    )


def _with_places(cache, positions, valid, segments, index):
    if index is None:
        raise ValueError("a cache needs cache_index: the slot of the first token")
    new = {"positions": positions, "valid": valid, "segments": segments}
    put = {
        name: written(getattr(cache, name), array, index, 1)
        for name, array in new.items()
    }
    return dataclasses.replace(cache, **put)


def cache_places(cache: KVCache) -> Places:
    """Places of a cache's tokens, empty slots marked."""
    return Places(cache.positions, jnp.where(cache.valid, cache.segments, NO_TOKEN))


def rows(heads: Array) -> Array:
    """[B, T, N, H] -> [B, N, T, H]."""
    return heads.swapaxes(1, 2)


def grouped(query: Array, key: Array) -> Array:
    """[B, T, N, H] -> [B, Nkv, G, T, H]: the queries that share a key head."""
    batch, length, heads, width = query.shape
    count = key.shape[2]
    query = query.reshape(batch, length, count, heads // count, width)
    return query.transpose(0, 2, 3, 1, 4)


def ungrouped(out: Array, config: TrunkConfig) -> Array:
    """[B, Nkv, G, T, H] -> [B, T, N, H], in the compute dtype."""
    batch, _, _, length, width = out.shape
    out = out.transpose(0, 3, 1, 2, 4).astype(config.dtype)
    return out.reshape(batch, length, config.num_heads, width)
