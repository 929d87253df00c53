"""The decoder without a head: tokens in, hidden states out.

trunk/token_embed/embedding        [V, D]
trunk/position_embed/embedding     [C, D]        learned positions
trunk/layers/attention_norm/scale  [L, D]        and bias for LayerNorm
trunk/layers/attention/query/kernel [L, D, N H]  key, value: [L, D, Nkv H]; bias
trunk/layers/attention/query_norm/scale [L, H]   and key_norm (Qwen 3)
trunk/layers/attention/out/kernel  [L, N H, D]
trunk/layers/post_attention_norm/scale [L, D]    and post_mlp_norm (Gemma 2)
trunk/layers/mlp_norm/scale        [L, D]
trunk/layers/mlp/up/kernel         [L, D, F]     gate likewise; down: [L, F, D]
trunk/final_norm/scale             [D]
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Int

from rlhf_jax.layouts import gathered, kept_rows
from rlhf_jax.models.block import Block
from rlhf_jax.models.cache import KVCache
from rlhf_jax.models.config import TrunkConfig
from rlhf_jax.models.norms import Norm
from rlhf_jax.models.positions import rotary_angles
from rlhf_jax.models.sight import Sight, sight

ALL = 2**30  # a window that hides nothing
# What is kept for the backward pass, by `TrunkConfig.remat`. Matrix products and what
# attention needs: with scan as fast as unrolled layers, in half the memory. Nothing but
# each layer's input: one more forward pass, in the least memory.
SAVED = {
    "products": jax.checkpoint_policies.save_only_these_names("product", "attention"),
    "full": jax.checkpoint_policies.nothing_saveable,
}


class Trunk(nn.Module):
    """Embedding, L blocks by scan with recomputation, final norm."""

    config: TrunkConfig

    def setup(self):
        c = self.config
        table = functools.partial(
            nn.Embed,
            features=c.embed_dim,
            embedding_init=nn.initializers.normal(c.init_std),
        )
        self.token_embed = table(c.vocab_size)
        if c.positions == "learned":
            self.position_embed = table(c.context_length)
        self.final_norm = Norm(c)
        self.dropout = nn.Dropout(c.residual_dropout)
        if self.is_initializing():
            self.layers = self.param("layers", _fresh_layers, c)
        else:  # read without a shape check: stacked, or a tuple of layers
            self.layers = self.get_variable("params", "layers")

    def __call__(
        self,
        tokens: Int[Array, "B T"],
        valid: Bool[Array, "B T"] | None = None,
        *,
        positions: Int[Array, "B T"] | None = None,
        segments: Int[Array, "B T"] | None = None,
        common: Bool[Array, "B T"] | None = None,
        cache: KVCache | None = None,
        cache_index: Int[Array, ""] | Int[Array, "B"] | int | None = None,
        prefix: KVCache | None = None,
        deterministic: bool = True,
    ):
        """Hidden states after the final norm.

        Args:
          tokens: ids; one outside the vocabulary gives NaN where it is valid.
          valid: true at real tokens, anywhere in a row; None: all are.
          positions: of each token; None: counted over `valid`, per segment, on from
            the tokens of the cache or prefix. (Counted positions are faster: the
            order of slots is then known.)
          segments: equal for tokens of one packed sequence; None: one per row.
          common: the first tokens of a row, which all its segments see and go on
            from: K responses behind one prompt. Needs `segments`; None: none.
          cache: tokens read before, which these see; these are written to it.
          cache_index: the slot of the first of these tokens; scalar or per row.
          prefix: tokens read before, [B / K] rows for K neighbouring rows here; read,
            not written. Its gradient flows.
          deterministic: no dropout; else rngs={"dropout": key} is needed.

        Returns:
          [B, T, D] in the compute dtype; with `cache`, that and the cache with these
          tokens in it.

        Raises:
          ValueError: more tokens than learned positions; `common` without segments,
            or with a cache or prefix.
        """
        seen = sight(
            self.config,
            valid,
            shape=tokens.shape,
            positions=positions,
            segments=segments,
            common=common,
            cache=cache,
            cache_index=cache_index,
            prefix=prefix,
        )
        if valid is not None:
            tokens = jnp.where(valid, tokens, 0)
        x = kept_rows(self._embedded(tokens, seen))
        x = self.dropout(x, deterministic=deterministic)
        x, memory = self._through_layers(x, seen, deterministic)
        x = self.final_norm(x)
        if cache is None:
            return x
        keys, values = memory
        return x, dataclasses.replace(seen.cache, keys=keys, values=values)

    def _embedded(self, tokens, seen: Sight):
        c = self.config
        table = gathered(self.token_embed.embedding)
        x = jnp.take(table, tokens, axis=0, fill_value=jnp.nan)
        x = x.astype(c.dtype)
        if c.embed_scale != 1.0:
            x = x * jnp.asarray(c.embed_scale, c.dtype)
        if c.positions == "learned":
            # segments that go on from common tokens are shorter than their row
            if not seen.common and tokens.shape[1] > c.context_length:
                raise ValueError(
                    f"{tokens.shape[1]} tokens, but the context is {c.context_length}"
                )
            table = gathered(self.position_embed.embedding, words=False)
            places = seen.queries.positions
            x = x + jnp.take(table, places, axis=0, mode="clip").astype(c.dtype)
        return x

    def _through_layers(self, x, seen: Sight, deterministic):
        """All blocks, one after the other; and the cache's keys and values."""
        c = self.config
        angles = local = None
        if c.positions == "rotary":
            angles = rotary_angles(seen.queries.positions, c)
        if c.local_rope_theta is not None:
            local = rotary_angles(seen.queries.positions, c, local=True)
        rngs = None
        if c.residual_dropout and not deterministic:
            rngs = jax.random.split(self.make_rng("dropout"), c.num_layers)
        block = Block(c, parent=None)

        def step(x, layer):
            params, window, rng, memory, prefix = layer
            x, kept = block.apply(
                {"params": params},
                kept_rows(x),
                _angles_of(window, angles, local),
                seen.mixer(memory, prefix, window),
                deterministic,
                rngs=None if rng is None else {"dropout": rng},
            )
            return kept_rows(x), kept

        stacked = not isinstance(self.layers, tuple | list)
        if c.remat != "none":
            step = jax.checkpoint(step, policy=SAVED[c.remat], prevent_cse=not stacked)
        each = (self.layers, layer_windows(c), rngs, *_memories(seen))
        if not stacked:
            return _one_by_one(step, x, each)
        decoding = seen.cache is not None and x.shape[1] == 1
        return (_in_place if decoding else jax.lax.scan)(step, x, each)


def unstack_layers(params: dict) -> dict:
    """The same parameters with layers as a tuple of L trees.

    For decoding: a loop over stacked layers copies each layer's weights, and what it
    reads of the cache, for every token. But the compiled program grows with the depth.
    No-op on parameters in that form.

    Args:
      params: of a trunk, or of a model with a trunk.
    """
    if "trunk" in params:
        return {**params, "trunk": unstack_layers(params["trunk"])}
    layers = params["layers"]
    if isinstance(layers, tuple | list):
        return params
    count = jax.tree.leaves(layers)[0].shape[0]
    parts = tuple(jax.tree.map(lambda leaf, i=i: leaf[i], layers) for i in range(count))
    return {**params, "layers": parts}


def stack_layers(params: dict) -> dict:
    """The inverse of `unstack_layers`."""
    if "trunk" in params:
        return {**params, "trunk": stack_layers(params["trunk"])}
    layers = params["layers"]
    if not isinstance(layers, tuple | list):
        return params
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers)
    return {**params, "layers": stacked}


def cast_matrices(params: dict, dtype) -> dict:
    """Parameters with what multiplies in `dtype`: matrices and embeddings.

    Vectors (norms, biases), stacked over layers or not, and the head of a
    `ScalarModel` keep theirs, as the forward pass computes with them. So in the
    compute dtype a model that is not trained gives the same bits in half the memory.

    Args:
      params: of any model, or of several by name.
      dtype: such as "bfloat16".
    """

    def cast(path, leaf):
        names = [getattr(key, "key", None) for key in path]
        one_by_one = any(isinstance(key, jax.tree_util.SequenceKey) for key in path)
        vector = 1 + ("layers" in names and not one_by_one)
        if leaf.ndim <= vector or "head" in names:
            return leaf
        return leaf.astype(dtype)

    return jax.tree_util.tree_map_with_path(cast, params)


def layer_windows(config: TrunkConfig) -> Int[Array, "L"] | None:
    """The window of each layer [tokens]; None where no layer has one."""
    if not any(config.windows):
        return None
    return jnp.asarray([window or ALL for window in config.windows], jnp.int32)


def _angles_of(window, angles, local):
    """The angles of a layer: its own where it has a window and those have their own."""
    if local is None or window is None:
        return angles
    return tuple(
        jnp.where(window < ALL, *pair) for pair in zip(local, angles, strict=True)
    )


def _fresh_layers(key, config: TrunkConfig) -> dict:
    """Parameters of all layers, stacked on a leading axis."""
    block = Block(config, parent=None)
    x = jnp.zeros((1, 1, config.embed_dim), config.dtype)

    def fresh(key):
        mix = lambda query, key, value: (query, None)  # noqa: E731
        return block.init(key, x, None, mix, True)["params"]

    return jax.vmap(fresh)(jax.random.split(key, config.num_layers))


def _memories(seen: Sight):
    """(keys, values) of the cache and of the prefix, layers leading."""
    return tuple(
        None if past is None else (past.keys, past.values)
        for past in (seen.cache, seen.prefix)
    )


def _in_place(step, x, each):
    """As `jax.lax.scan`, the cache carried whole: a layer writes its new slots alone.

    `scan` over the cache would write all of it anew for every token.
    """
    params, windows, rngs, memory, prefix = each

    def turn(carry, layer):
        x, memory = carry
        params, window, rng, prefix, index = layer
        return step(x, (params, window, rng, (*memory, index), prefix)), None

    count = jax.tree.leaves(params)[0].shape[0]
    layers = (params, windows, rngs, prefix, jnp.arange(count, dtype=jnp.int32))
    return jax.lax.scan(turn, (x, memory), layers)[0]


def _one_by_one(step, x, each):
    """As `jax.lax.scan`, unrolled, over tuples of layers."""
    params, windows, rngs, *memories = each
    kept = []
    for i, layer in enumerate(params):
        pick = lambda leaf, i=i: None if leaf is None else leaf[i]  # noqa: E731
        past = [None if m is None else (m[0][i], m[1][i]) for m in memories]
        x, memory = step(x, (layer, pick(windows), pick(rngs), *past))
        kept.append(memory)
    if memories[0] is None:
        return x, None
    return x, tuple(zip(*kept, strict=True))
