"""The continuous engine: a row that ends gives its slot to the next in the queue.

One long response does not hold the others: with N rows, S slots and mean length m it
takes about N·m / S steps, where the static engine takes the longest length per batch.

The cache has P slots for a prompt and a ring of R for the response. Attention reads
positions and valid flags, never the order of slots; so all rows write at the slot of
one common clock, wherever each of them is in its response, and a step costs what it
costs in the static engine. A row lives for at most R steps and the ring has R slots, so
it never overwrites its own.
"""

import dataclasses

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, PRNGKeyArray

from rlhf_jax.sampling.decoder import Decoder
from rlhf_jax.sampling.draw import row_keys
from rlhf_jax.sampling.prompts import pack_prompts, response_limits
from rlhf_jax.sampling.samples import Samples


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


@dataclasses.dataclass(frozen=True, eq=False)  # hashed by identity, inside a trace
class _Queue:
    """The N rows that want to be written, and how: what the loops only read."""

    decoder: Decoder
    prompts: Array  # [B, P], packed
    valid: Array  # [B, P]
    lengths: Array  # [N] tokens of the row's prompt
    limits: Array  # [N] tokens the row may write
    keys: Array  # [N]
    copies: int  # rows per prompt, K
    refill: int  # prompts prefilled at a time

    @property
    def rows(self) -> int:
        """N; also the row of an idle slot."""
        return self.lengths.shape[0]

    @property
    def group(self) -> int:
        """Slots that a refill fills."""
        return self.copies * self.refill

    def start(self, slots: int) -> _Loop:
        """Nothing written, every slot idle."""
        spec, width = self.decoder.spec, self.prompts.shape[1]
        shape = (self.rows, spec.max_new_tokens)
        return _Loop(
            clock=jnp.int32(0),
            next_row=jnp.int32(0),
            tokens=jnp.full(shape, spec.pad_token, jnp.int32),
            logprobs=jnp.zeros(shape, jnp.float32),
            lengths=jnp.zeros(self.rows, jnp.int32),
            finished=jnp.zeros(self.rows, bool),
            row=jnp.full(slots, self.rows, jnp.int32),
            step=jnp.zeros(slots, jnp.int32),
            last=jnp.zeros(slots, jnp.int32),
            cache=self.decoder.empty_cache(slots, width + spec.max_new_tokens),
        )

    def waits(self, state: _Loop) -> Bool[Array, ""]:
        """Whether a row has not begun."""
        return state.next_row < self.rows

    def turn(self, state: _Loop) -> _Loop:
        """One refill, then tokens until the next is possible or all slots are idle."""

        def goes_on(state: _Loop) -> Bool[Array, ""]:
            idle = jnp.sum(state.row == self.rows)
            refills = self.waits(state) & (idle >= self.group)
            return jnp.any(state.row < self.rows) & ~refills

        return jax.lax.while_loop(goes_on, self.decode, self.fill(state))

    def fill(self, state: _Loop) -> _Loop:
        """Prefills the next prompts of the queue into idle slots."""
        rows, group, decoder = self.rows, self.group, self.decoder
        places = jnp.argsort(state.row < rows, stable=True)[:group]  # idle ones first
        row = state.next_row + jnp.arange(group, dtype=jnp.int32)
        prompt = state.next_row // self.copies
        prompt = prompt + jnp.arange(self.refill, dtype=jnp.int32)
        prompt = jnp.minimum(prompt, self.prompts.shape[0] - 1)
        hidden, fresh = decoder.prefill(self.prompts[prompt], self.valid[prompt])
        hidden, fresh = decoder.repeat_rows((hidden, fresh), self.copies)
        state, row, step, last = self.write(
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

    def decode(self, state: _Loop) -> _Loop:
        """One token for every slot."""
        at = jnp.minimum(state.row, self.rows - 1)
        positions = self.lengths[at] + state.step - 1
        slot = self.prompts.shape[1] + state.clock % self.decoder.spec.max_new_tokens
        hidden, cache = self.decoder.step(state.last, positions, state.cache, slot)
        state, row, step, last = self.write(state, hidden, state.row, state.step)
        return dataclasses.replace(
            state, clock=state.clock + 1, row=row, step=step, last=last, cache=cache
        )

    def write(
        self, state: _Loop, hidden: Array, row: Array, step: Array
    ) -> tuple[_Loop, Array, Array, Array]:
        """Draws token `step` of each `row` [G] and puts it down.

        Returns:
          The output written to, and of the G slots: row, step and last token.
        """
        at = jnp.minimum(row, self.rows - 1)
        active = (row < self.rows) & (step < self.limits[at])
        tokens, logprobs, ends = self.decoder.draw(hidden, self.keys[at], step, active)
        goes_on = active & ~ends & (step + 1 < self.limits[at])
        put = jnp.where(active, row, self.rows)  # N is out of range: dropped
        state = dataclasses.replace(
            state,
            tokens=state.tokens.at[put, step].set(tokens, mode="drop"),
            logprobs=state.logprobs.at[put, step].set(logprobs, mode="drop"),
            lengths=state.lengths.at[put].set(step + 1, mode="drop"),
            finished=state.finished.at[put].set(ends, mode="drop"),
        )
        return state, jnp.where(goes_on, row, self.rows), step + 1, tokens


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
    budget = decoder.spec.max_new_tokens
    prompts, valid, lengths = pack_prompts(prompts, valid)
    lengths = jnp.repeat(lengths, copies)
    limits = response_limits(limits, lengths, budget, decoder.context_length)
    keys = row_keys(key, row_ids)
    queue = _Queue(decoder, prompts, valid, lengths, limits, keys, copies, refill)
    state = jax.lax.while_loop(queue.waits, queue.turn, queue.start(slots))
    return Samples(
        tokens=state.tokens,
        mask=jnp.arange(budget)[None] < state.lengths[:, None],
        logprobs=state.logprobs,
        finished=state.finished,
        lengths=state.lengths,
    )
