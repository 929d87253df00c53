"""A model with its cache, as both engines use it: prefill, one step, one draw."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from rlhf_jax.models import (
    KVCache,
    LanguageModel,
    grow_cache,
    init_cache,
    unstack_layers,
)
from rlhf_jax.sampling.draw import draw_tokens, first_largest, token_uniforms
from rlhf_jax.sampling.filters import scaled_logits
from rlhf_jax.sampling.spec import SamplingSpec


def decoding_params(params: dict, dtype=None) -> dict:
    """Parameters as a decode loop reads them best: a tuple of layers, matrices cast.

    Called once per rollout and outside its loop: a loop over stacked layers would
    copy each layer's weights, and its cache, for every token. Vectors (norms, biases)
    keep their dtype, as in the training forward.

    Args:
      params: of a `LanguageModel`, layers stacked or not.
      dtype: of the matrices; None keeps theirs.
    """
    params = unstack_layers(params)
    if dtype is None:
        return params
    return jax.tree.map(
        lambda leaf: leaf.astype(dtype) if leaf.ndim > 1 else leaf, params
    )


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

    def empty_cache(self, rows: int, slots: int) -> KVCache:
        """A cache in which nothing is valid yet."""
        return init_cache(self.model.config, rows, slots, unstacked=True)

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
        return jax.tree.map(lambda leaf: jnp.repeat(leaf, copies, axis=0), tree)

    def replace_rows(
        self, cache: KVCache, rows: Int[Array, "G"], fresh: KVCache
    ) -> KVCache:
        """Gives rows of the cache to other sequences: theirs first, then nothing.

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
            return old.at[rows, :, :width].set(new)  # keys, values: [B, N, S, H]

        return jax.tree.map(put, emptied, fresh)

    def _hidden(self, tokens, valid, **kwargs):
        return self.model.apply(
            {"params": self.params}, tokens, valid, method="hidden", **kwargs
        )
