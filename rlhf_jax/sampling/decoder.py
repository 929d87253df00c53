"""A model with its cache, as both engines use it: prefill, one step, one draw."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from rlhf_jax.models import (
    KVCache,
    LanguageModel,
    cast_matrices,
    grow_cache,
    init_cache,
    stack_layers,
    unstack_layers,
)
from rlhf_jax.sampling.draw import draw_tokens, first_largest, token_uniforms
from rlhf_jax.sampling.filters import scaled_logits
from rlhf_jax.sampling.spec import SamplingSpec

# Layers up to which a decode loop is unrolled by default. Unrolled, it decodes faster
# and compiles in time that grows with the depth; scanned, in time that does not.
MOST_UNROLLED = 12


def decoding_params(params: dict, dtype=None, *, unrolled: bool | None = None) -> dict:
    """Parameters as a decode loop reads them best: laid out by depth, matrices cast.

    Called once per rollout and outside its loop. Vectors (norms, biases) keep their
    dtype, as in the training forward.

    Args:
      params: of a `LanguageModel`, layers stacked or not.
      dtype: of the matrices; None keeps theirs.
      unrolled: a tuple of layers, each with its own code and memory in the loop; else
        they are stacked and the loop goes over them. None: a tuple up to
        `MOST_UNROLLED` layers, and where they are one already.
    """
    if dtype is not None:
        params = cast_matrices(params, dtype)
    if unrolled is None:
        layers = params["trunk"]["layers"]
        loose = isinstance(layers, tuple | list)
        unrolled = loose or len(jax.tree.leaves(layers)[0]) <= MOST_UNROLLED
    return unstack_layers(params) if unrolled else stack_layers(params)


@dataclasses.dataclass(frozen=True)
class Decoder:
    """The model behind an engine, within one trace.

    Attributes:
      model: gives hidden states and reads and writes the cache.
      params: its parameters (`decoding_params`).
      spec: what is drawn.
    """

    model: LanguageModel
    params: dict
    spec: SamplingSpec

    @property
    def context_length(self) -> int:
        """Tokens of prompt and response together that the model can read."""
        return self.model.config.context_length

    @property
    def unrolled(self) -> bool:
        """Whether each layer has its own code in the loop."""
        return isinstance(self.params["trunk"]["layers"], tuple | list)

    def empty_cache(self, rows: int, slots: int) -> KVCache:
        """A cache in which nothing is valid yet."""
        return init_cache(self.model.config, rows, slots, unstacked=self.unrolled)

    def prefill(
        self, prompts: Int[Array, "B P"], valid: Bool[Array, "B P"]
    ) -> tuple[Float[Array, "B D"], KVCache]:
        """Reads packed prompts: the last token's hidden state, a cache of P slots."""
        cache = self.empty_cache(*prompts.shape)
        hidden, cache = self._hidden(prompts, valid, cache=cache, cache_index=0)
        return hidden[:, -1], cache

    def step(
        self,
        tokens: Int[Array, "B"],
        positions: Int[Array, "B"],
        cache: KVCache,
        slot: Int[Array, ""],
    ) -> tuple[Float[Array, "B D"], KVCache]:
        """Reads one token per row, at its own position, into one slot of the cache."""
        hidden, cache = self._hidden(
            tokens[:, None],
            jnp.ones((tokens.shape[0], 1), bool),
            positions=positions[:, None],
            cache=cache,
            cache_index=slot,
        )
        return hidden[:, 0], cache

    def draw(
        self,
        hidden: Float[Array, "B D"],
        keys: PRNGKeyArray,
        steps: Int[Array, "B"],
        active: Bool[Array, "B"],
    ) -> tuple[Int[Array, "B"], Float[Array, "B"], Bool[Array, "B"]]:
        """The next token of each row.

        Args:
          hidden: what the logits are made of.
          keys: [B], of `row_keys`.
          steps: t, the index of the token in its response.
          active: rows that write; the others get the pad token.

        Returns:
          Tokens, their log-probabilities [nats; 0 where not active], and whether the
          row ended with this token.
        """
        logits = self.model.logits(self.params, hidden)
        logits = scaled_logits(logits, steps, self.spec)
        if self.spec.greedy:
            tokens, logprobs = first_largest(logits)
        else:
            tokens, logprobs = draw_tokens(logits, token_uniforms(keys, steps))
        ends = jnp.zeros_like(active)
        for end in self.spec.end_tokens:
            ends |= active & (tokens == end)
        tokens = jnp.where(active, tokens, self.spec.pad_token)
        return tokens, jnp.where(active, logprobs, 0.0), ends

    def grow(self, cache: KVCache, slots: int) -> KVCache:
        """The same cache with room for `slots`."""
        return grow_cache(cache, slots)

    def repeat_rows(self, tree, copies: int):
        """Each row `copies` times, one after the other: K responses of a prompt."""
        if copies == 1:
            return tree

        def repeated(leaf, axis=0):
            if isinstance(leaf, KVCache):
                return leaf.each(repeated)
            return jnp.repeat(leaf, copies, axis=axis)

        return jax.tree.map(repeated, tree, is_leaf=lambda x: isinstance(x, KVCache))

    def replace_rows(
        self, cache: KVCache, rows: Int[Array, "G"], fresh: KVCache
    ) -> KVCache:
        """Gives rows to other sequences: copies their entries, clears the rest.

        Args:
          cache: of S ≥ P slots.
          rows: which rows to replace.
          fresh: their new content, G rows of P slots.
        """
        width = fresh.valid.shape[1]
        emptied = dataclasses.replace(cache, valid=cache.valid.at[rows].set(False))

        def put(old, new):
            new = new.astype(old.dtype)
            if old.ndim == 2:  # positions, valid, segments: [B, S]
                return old.at[rows, :width].set(new)
            if old.ndim == 4:  # keys, values: [B, N, S, H]
                return old.at[rows, :, :width].set(new)
            return old.at[:, rows, :, :width].set(new)  # with layers leading

        return jax.tree.map(put, emptied, fresh)

    def _hidden(self, tokens, valid, **kwargs):
        return self.model.apply(
            {"params": self.params}, tokens, valid, method="hidden", **kwargs
        )
