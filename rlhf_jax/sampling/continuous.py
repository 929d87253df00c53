"""The continuous engine: a row that ends gives its slot to the next in the queue.

One long response does not hold the others: with N rows, S slots and mean length m it
takes about N·m / S steps, where the static engine takes the longest length per batch.

The cache has P slots for a prompt and a ring of R for the response. Attention reads
positions and valid flags, never the order of slots; so all rows write at the slot of
one common clock, wherever each of them is in its response, and a step costs what it
costs in the static engine. A row lives for at most R steps and cannot meet itself.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PRNGKeyArray

from rlhf_jax.sampling.decoder import Decoder
from rlhf_jax.sampling.draw import row_keys
from rlhf_jax.sampling.prompts import pack_prompts, response_limits
from rlhf_jax.sampling.samples import Samples

__all__ = ["generate_continuous"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class _Loop:
    """Carry of the loops. N rows of output; S slots; an idle slot has row N."""

    clock: Array  # decode steps so far
    next_row: Array  # head of the queue
    tokens: Array  # [N, R]
    logprobs: Array  # [N, R]
    lengths: Array  # [N]
    finished: Array  # [N]
    row: Array  # [S] which row the slot writes
    step: Array  # [S] t of the row's next token
    last: Array  # [S] its token t-1
    cache: object


def generate_continuous(
    decoder: Decoder,
    prompts: Int[Array, "B P"],
    valid: Bool[Array, "B P"],
    row_ids: Int[Array, "N"],
    key: PRNGKeyArray,
    limits: Int[Array, "N"] | None,
    copies: int = 1,
    *,
    slots: int,
    refill: int,
) -> Samples:
    """The same responses as `generate_static`, in fewer steps when lengths differ.

    Args:
      decoder: model, parameters and spec.
      prompts: token ids; any padding.
      valid: true at real tokens.
      row_ids: name of each of the N = B·K responses, prompt by prompt.
      key: of this rollout.
      limits: tokens each row may write; None: the budget.
      copies: K, responses per prompt.
      slots: S, rows decoded at a time; S ≥ K·refill.
      refill: prompts prefilled at a time, when K·refill slots are idle.

    Returns:
      Samples with N rows, in the order of `row_ids`.
    """
    spec, width = decoder.spec, prompts.shape[1]
    budget, rows, group = spec.max_new_tokens, row_ids.shape[0], copies * refill
    prompts, valid, prompt_lengths = pack_prompts(prompts, valid)
    lengths = jnp.repeat(prompt_lengths, copies)
    limits = response_limits(limits, lengths, budget, decoder.context_length)
    keys = row_keys(key, row_ids)

    def write(state: _Loop, hidden, row, step):
        """Draws token `step` of each `row` [G] and puts it down; G slots' new state."""
        at = jnp.minimum(row, rows - 1)
        active = (row < rows) & (step < limits[at])
        tokens, logprobs, ends = decoder.draw(hidden, keys[at], step, active)
        goes_on = active & ~ends & (step + 1 < limits[at])
        put = jnp.where(active, row, rows)  # `rows` is out of range: dropped
        state = dataclasses.replace(
            state,
            tokens=state.tokens.at[put, step].set(tokens, mode="drop"),
            logprobs=state.logprobs.at[put, step].set(logprobs, mode="drop"),
            lengths=state.lengths.at[put].set(step + 1, mode="drop"),
            finished=state.finished.at[put].set(ends, mode="drop"),
        )
        return state, jnp.where(goes_on, row, rows), step + 1, tokens

    def fill(state: _Loop) -> _Loop:
        """Prefills the next prompts of the queue into idle slots."""
        places = jnp.argsort(state.row < rows, stable=True)[:group]  # idle ones first
        row = state.next_row + jnp.arange(group, dtype=jnp.int32)
        prompt = state.next_row // copies + jnp.arange(refill, dtype=jnp.int32)
        prompt = jnp.minimum(prompt, prompts.shape[0] - 1)
        hidden, fresh = decoder.prefill(prompts[prompt], valid[prompt])
        hidden, fresh = decoder.repeat_rows((hidden, fresh), copies)
        state, row, step, last = write(
            state, hidden, jnp.minimum(row, rows), jnp.zeros(group, jnp.int32)
        )
        return dataclasses.replace(
            state,
            next_row=jnp.minimum(state.next_row + group, rows),
            row=state.row.at[places].set(row),
            step=state.step.at[places].set(step),
            last=state.last.at[places].set(last),
            cache=decoder.replace_rows(state.cache, places, fresh),
        )

    def decode(state: _Loop) -> _Loop:
        """One token for every slot."""
        at = jnp.minimum(state.row, rows - 1)
        positions = lengths[at] + state.step - 1
        slot = width + state.clock % budget
        hidden, cache = decoder.step(state.last, positions, state.cache, slot)
        state, row, step, last = write(state, hidden, state.row, state.step)
        return dataclasses.replace(
            state, clock=state.clock + 1, row=row, step=step, last=last, cache=cache
        )

    def can_fill(state: _Loop):
        return (state.next_row < rows) & (jnp.sum(state.row == rows) >= group)

    def turn(state: _Loop) -> _Loop:
        return jax.lax.while_loop(
            lambda s: jnp.any(s.row < rows) & ~can_fill(s), decode, fill(state)
        )

    state = jax.lax.while_loop(
        lambda s: s.next_row < rows,
        turn,
        _Loop(
            clock=jnp.int32(0),
            next_row=jnp.int32(0),
            tokens=jnp.full((rows, budget), spec.pad_token, jnp.int32),
            logprobs=jnp.zeros((rows, budget), jnp.float32),
            lengths=jnp.zeros(rows, jnp.int32),
            finished=jnp.zeros(rows, bool),
            row=jnp.full(slots, rows, jnp.int32),
            step=jnp.zeros(slots, jnp.int32),
            last=jnp.zeros(slots, jnp.int32),
            cache=decoder.empty_cache(slots, width + budget),
        ),
    )
    return Samples(
        tokens=state.tokens,
        mask=jnp.arange(budget)[None] < state.lengths[:, None],
        logprobs=state.logprobs,
        finished=state.finished,
        lengths=state.lengths,
    )
