"""Prompts as the engines want them: checked on the host, packed to the right end."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from rlhf_jax.errors import InputError


def pack_prompts(
    prompts: Int[Array, "B P"], valid: Bool[Array, "B P"]
) -> tuple[Int[Array, "B P"], Bool[Array, "B P"], Int[Array, "B"]]:
    """Moves the real tokens of each row, in order, to the row's end.

    Left padded, right padded and prompts with holes become the same arrays, so they
    get the same response bit for bit, and the last token stands at P - 1 in each row.
    A row without a token is given one (its last), so that its attention has something
    to read; such a row is only a filler and its response is empty.

    Returns:
      Prompts and valid, packed, and the count of real tokens per row [tokens].
    """
    order = jnp.argsort(valid, axis=1, stable=True)  # false before true
    lengths = jnp.sum(valid, axis=1, dtype=jnp.int32)
    kept = jnp.maximum(lengths, 1)[:, None]
    places = jnp.arange(valid.shape[1])[None]
    packed_valid = places >= valid.shape[1] - kept
    packed = jnp.take_along_axis(prompts, order, axis=1)
    return jnp.where(packed_valid, packed, 0), packed_valid, lengths


def response_limits(
    limits: Int[Array, "B"] | None,
    lengths: Int[Array, "B"],
    budget: int,
    context_length: int,
) -> Int[Array, "B"]:
    """Tokens each row may write: its own limit, the budget R, and the context's room.

    A prompt of n tokens leaves context_length - n; a response that reaches the end of
    the context stops there, unfinished. An empty row writes nothing.
    """
    room = jnp.clip(context_length - lengths, 0, budget)
    room = jnp.where(lengths > 0, room, 0)
    return room if limits is None else jnp.clip(limits, 0, room).astype(jnp.int32)


def check_prompts(prompts, valid, row_ids, limits, *, copies: int, config):
    """Refuses what cannot be continued, naming the rows.

    Values are looked at where they are on this host; under a jit only shapes are.

    Args:
      prompts: [B, P] token ids.
      valid: [B, P], true at real tokens.
      row_ids: [B·K], the names of the responses.
      limits: [B·K] tokens, or None.
      copies: K, responses per prompt.
      config: the model's; its context_length and vocab_size are used.

    Raises:
      InputError: arrays that do not belong together; a token outside the vocabulary;
        a prompt without a token or one that fills the whole context. Rows whose
        limits are all 0 (fillers) may hold anything.
    """
    rows = prompts.shape[0] * copies
    if prompts.ndim != 2 or valid.shape != prompts.shape:
        raise InputError(
            f"sampling: prompts are {prompts.shape} and valid {valid.shape}, "
            "expected [B, P] both"
        )
    for name, array in (("row_ids", row_ids), ("limits", limits)):
        if array is not None and array.shape != (rows,):
            raise InputError(
                f"sampling: {name} are {array.shape}, expected ({rows},): one per "
                f"response, {copies} for each of {prompts.shape[0]} prompts"
            )
    if not all(_on_host(a) for a in (prompts, valid, limits) if a is not None):
        return
    lengths = np.asarray(valid).sum(axis=1)
    wanted = np.ones(len(lengths), bool)
    if limits is not None:
        wanted = (np.asarray(limits).reshape(-1, copies) > 0).any(axis=1)
    _refuse(lengths == 0, wanted, "has no token; begin it with an end-of-text token")
    context, size = config.context_length, config.vocab_size
    full = lengths >= context
    _refuse(full, wanted, f"leaves no room in a context of {context} tokens")
    ids = np.asarray(prompts)
    alien = (np.asarray(valid) & ((ids < 0) | (ids >= size))).any(axis=1)
    _refuse(alien, wanted, f"has a token outside the vocabulary of {size}")


def _on_host(array) -> bool:
    """True for values that can be read here without waiting for another process."""
    if isinstance(array, jax.core.Tracer):
        return False
    return not isinstance(array, jax.Array) or array.is_fully_addressable


def _refuse(bad: np.ndarray, wanted: np.ndarray, why: str):
    rows = np.flatnonzero(bad & wanted)
    if rows.size:
        more = f" (and {rows.size - 1} more)" if rows.size > 1 else ""
        raise InputError(f"sampling: the prompt of row {rows[0]}{more} {why}")
