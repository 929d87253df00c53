"""The static engine: all rows start together; it ends when the last of them does."""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PRNGKeyArray

from rlhf_jax.sampling.decoder import Decoder
from rlhf_jax.sampling.draw import row_keys
from rlhf_jax.sampling.prompts import pack_prompts, response_limits
from rlhf_jax.sampling.samples import Samples

_SHORTEST_SEGMENT = 32  # tokens
_MOST_SEGMENTS = 4  # each is compiled
_MOST_LAYERS = 16  # of code in all loops together, while layers are unrolled


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Loop:
    """Carry of the decode loop: what was written, and what the next step reads."""

    step: Array  # t: tokens 0 .. t-1 are written
    tokens: Array  # [B, R]
    logprobs: Array  # [B, R]
    lengths: Array  # [B]
    finished: Array  # [B]
    active: Array  # [B] the row writes token t
    last: Array  # [B] token t-1
    cache: object


def segment_ends(budget: int, most: int = _MOST_SEGMENTS) -> list[int]:
    """Where the cache grows: the decode loop is cut into at most `most` loops.

    Within one loop the cache has one size; a loop that ends at token e attends to
    P + e slots and not to P + R, so early tokens do not pay for the whole budget.

    >>> segment_ends(128)
    [32, 64, 96, 128]
    >>> segment_ends(40)
    [32, 40]
    """
    width = max(_SHORTEST_SEGMENT, -(-budget // most))
    return [min(end, budget) for end in range(width, budget + width, width)]


def most_segments(decoder: Decoder) -> int:
    """Loops that are worth compiling: fewer where each is the code of many layers."""
    if not decoder.unrolled:
        return _MOST_SEGMENTS
    depth = decoder.model.config.num_layers
    return max(1, min(_MOST_SEGMENTS, _MOST_LAYERS // depth))


def generate_static(
    decoder: Decoder,
    prompts: Int[Array, "B P"],
    valid: Bool[Array, "B P"],
    row_ids: Int[Array, "BK"],
    key: PRNGKeyArray,
    limits: Int[Array, "BK"] | None,
    copies: int = 1,
) -> Samples:
    """Prefill once per prompt, repeat the cache per copy, decode until all are done.

    The step's cache slot is the same for all rows, since prompts are packed to the
    right end; the loop ends as soon as no row is active.

    Args:
      decoder: model, parameters and spec.
      prompts: token ids; any padding.
      valid: true at real tokens.
      row_ids: name of each response, prompt by prompt.
      key: of this rollout.
      limits: tokens each row may write; None: the budget.
      copies: K, responses per prompt.

    Returns:
      Samples with B·K rows.
    """
    budget, width = decoder.spec.max_new_tokens, prompts.shape[1]
    prompts, valid, lengths = pack_prompts(prompts, valid)
    hidden, cache = decoder.prefill(prompts, valid)
    hidden, lengths, cache = decoder.repeat_rows((hidden, lengths, cache), copies)
    limits = response_limits(limits, lengths, budget, decoder.context_length)
    keys = row_keys(key, row_ids)

    def write(state: _Loop, hidden) -> _Loop:
        steps = jnp.full_like(lengths, state.step)
        tokens, logprobs, ends = decoder.draw(hidden, keys, steps, state.active)
        written = state.lengths + state.active
        return dataclasses.replace(
            state,
            step=state.step + 1,
            tokens=_put_column(state.tokens, tokens, state.step),
            logprobs=_put_column(state.logprobs, logprobs, state.step),
            lengths=written,
            finished=state.finished | ends,
            active=state.active & ~ends & (written < limits),
            last=tokens,
        )

    def decode(state: _Loop) -> _Loop:
        written = state.step - 1
        hidden, cache = decoder.step(
            state.last, lengths + written, state.cache, width + written
        )
        return write(dataclasses.replace(state, cache=cache), hidden)

    rows = lengths.shape[0]
    state = _Loop(
        step=jnp.int32(0),
        tokens=jnp.full((rows, budget), decoder.spec.pad_token, jnp.int32),
        logprobs=jnp.zeros((rows, budget), jnp.float32),
        lengths=jnp.zeros(rows, jnp.int32),
        finished=jnp.zeros(rows, bool),
        active=limits > 0,
        last=jnp.zeros(rows, jnp.int32),
        cache=cache,
    )
    state = write(state, hidden)
    for end in segment_ends(budget, most_segments(decoder)):
        cache = decoder.grow(state.cache, width + end)
        state = jax.lax.while_loop(
            lambda s, end=end: (s.step < end) & jnp.any(s.active),
            decode,
            dataclasses.replace(state, cache=cache),
        )
    return Samples(
        tokens=state.tokens,
        mask=jnp.arange(budget)[None] < state.lengths[:, None],
        logprobs=state.logprobs,
        finished=state.finished,
        lengths=state.lengths,
    )


def _put_column(array, values, column):
    values = values.astype(array.dtype)[:, None]
    return jax.lax.dynamic_update_slice_in_dim(array, values, column, axis=1)
