"""Softmax attention in blocks that keeps no scores for the backward pass.

    s_ij = cap(q_i · k_j),  p_ij = exp(s_ij) visible_ij / z_i,  out_i = sum_j p_ij v_j

`attend` also gives log z. Two results over different keys join exactly by it
(`merged`): a response attends to its prompt and to itself in two parts.

Source: Dao et al. 2022 (FlashAttention) for the recomputation by log z; here as plain
array code for every device. Scores exist for one block of queries at a time, float32.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Bool, Float, Int

from rlhf_jax.layouts import apart, contracted, transposed

# Slots per block. Up to this many blocks of queries are unrolled.
BLOCK, MOST_BLOCKS = 128, 8
NO_TOKEN = -1  # segment of a slot that holds none: equal to no query's
COMMON = -2  # segment of tokens that all segments of their row see
EMPTY = -1e30  # log z where nothing is visible; finite, so differences are


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Places:
    """Where tokens stand; decides who sees whom.

    Attributes:
      positions: of each token in its sequence.
      segments: equal for tokens that may see each other; `NO_TOKEN` in empty slots,
        `COMMON` where all that comes later in the row may look.
    """

    positions: Int[Array, "B T"]
    segments: Int[Array, "B T"]

    def __getitem__(self, slots: slice) -> "Places":
        return Places(self.positions[:, slots], self.segments[:, slots])


@dataclasses.dataclass(frozen=True)
class Rule:
    """What is fixed at compile time.

    Attributes:
      soft_cap: c of c tanh(s / c); None: none.
      ordered: keys are the queries' own slots and a later slot is never seen, so
        whole blocks are skipped.
      common: some keys may be `COMMON`.
    """

    soft_cap: float | None = None
    ordered: bool = False
    common: bool = False


def visible(
    queries: Places,
    keys: Places,
    window: Int[Array, ""] | None,
    *,
    common: bool = False,
) -> Bool[Array, "B T S"]:
    """Whether a query sees a key: same segment, not later, within the window.

    With `common`, keys of the segment `COMMON` are of every segment.
    """
    q, k = queries.positions[:, :, None], keys.positions[:, None, :]
    theirs = keys.segments[:, None, :]
    same = queries.segments[:, :, None] == theirs
    seen = (same | (theirs == COMMON) if common else same) & (k <= q)
    return seen if window is None else seen & (q - k < window)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def attend(
    rule: Rule,
    query: Float[Array, "B Nkv G T H"],
    key: Float[Array, "B Nkv S H"],
    value: Float[Array, "B Nkv S H"],
    queries: Places,
    keys: Places,
    window: Int[Array, ""] | None,
) -> tuple[Float[Array, "B Nkv G T H"], Float[Array, "B Nkv G T"]]:
    """Attention of scaled queries over keys, and the log of its normaliser.

    Args:
      rule: soft cap, order.
      query: scaled by 1/sqrt(H) already; G query heads share a key head.
      key: rotated already.
      value: what is averaged.
      queries: places of the queries.
      keys: places of the keys.
      window: how many tokens back are seen, itself included; None: all.

    Returns:
      The average in float32 (0 where nothing is visible) and log z (`EMPTY` there).
    """
    return _forward(rule, query, key, value, queries, keys, window)


def merged(parts: list[tuple[Array, Array]]) -> Array:
    """One attention from several over disjoint keys, weighted by their normalisers."""
    logs = jnp.stack([log_z for _, log_z in parts])
    weights = jax.nn.softmax(logs, axis=0)
    return sum(
        out * weight[..., None] for (out, _), weight in zip(parts, weights, strict=True)
    )


def _forward(rule, query, key, value, queries, keys, window):
    outs, logs = [], []
    length = query.shape[3]
    for start, end in _blocks(length):
        seen = slice(0, end) if rule.ordered else slice(None)
        out, log_z = _forward_block(
            rule,
            query[:, :, :, start:end],
            key[:, :, seen],
            value[:, :, seen],
            visible(queries[start:end], keys[seen], window, common=rule.common),
        )
        outs.append(out)
        logs.append(log_z)
    return jnp.concatenate(outs, axis=3), jnp.concatenate(logs, axis=3)


def _forward_block(rule, query, key, value, mask):
    scores = contracted("bngth,bnsh->bngts", query, key)
    scores = jnp.where(mask[:, None, None], _capped(rule, scores), EMPTY)
    top = jnp.maximum(scores.max(axis=-1, keepdims=True), 0.5 * EMPTY)
    weights = jnp.exp(scores - top)  # 0 where masked, also in an empty row
    total = weights.sum(axis=-1, keepdims=True)
    out = contracted("bngts,bnsh->bngth", weights.astype(value.dtype), value)
    some = total > 0
    safe = jnp.where(some, total, 1.0)
    log_z = jnp.where(some, top + jnp.log(safe), EMPTY)
    return out / safe, log_z[..., 0]


def _attend_forward(rule, query, key, value, queries, keys, window):
    out, log_z = _forward(rule, query, key, value, queries, keys, window)
    log_z = checkpoint_name(log_z, "attention")
    kept = checkpoint_name(out.astype(query.dtype), "attention")
    out = kept.astype(jnp.float32)
    return (out, log_z), (query, key, value, queries, keys, window, kept, log_z)


def _attend_backward(rule, saved, cotangents):
    """Gradients, block by block of keys, with scores transposed to [keys, queries].

    With P = softmax(S), D_i = dout_i · out_i:
      dV = Pᵀ dout,  dS = P ∘ (dout Vᵀ - D + dlog_z),  dQ = dS K,  dK = dSᵀ Q
    Transposed scores make every product a plain one (rows times columns), which the
    CPU's matrix units want.
    """
    query, key, value, queries, keys, window, out, log_z = saved
    dout, dlog_z = cotangents
    delta = (dout * out.astype(jnp.float32)).sum(axis=-1) - dlog_z
    dout = dout.astype(query.dtype)
    dquery = jnp.zeros(query.shape, jnp.float32)
    dkeys, dvalues = [], []
    for start, end in _blocks(key.shape[2]):
        first = start if rule.ordered else 0
        part, dkey, dvalue = _backward_block(
            rule,
            (query[:, :, :, first:], dout[:, :, :, first:]),
            (log_z[:, :, :, first:], delta[:, :, :, first:]),
            (key[:, :, start:end], value[:, :, start:end]),
            visible(queries[first:], keys[start:end], window, common=rule.common),
        )
        dquery = dquery.at[:, :, :, first:].add(part)
        dkeys.append(dkey)
        dvalues.append(dvalue)
    gradients = (
        dquery.astype(query.dtype),
        jnp.concatenate(dkeys, axis=2).astype(key.dtype),
        jnp.concatenate(dvalues, axis=2).astype(value.dtype),
    )
    return (*gradients, None, None, None)


def _backward_block(rule, wide, rows, narrow, mask):
    (query, dout), (log_z, delta), (key, value) = wide, rows, narrow
    groups, length = query.shape[2:4]
    flat = functools.partial(jnp.reshape, shape=(*key.shape[:2], groups * length, -1))
    query, dout = flat(query), flat(dout)  # heads of a group one after the other
    log_z, delta = flat(log_z)[:, :, None, :, 0], flat(delta)[:, :, None, :, 0]
    mask = jnp.tile(mask.swapaxes(1, 2), (1, 1, groups))[:, None]  # [B 1 S GT]
    raw = contracted("bnsh,bnth->bnst", key, query)
    capped = _capped(rule, raw)
    weights = jnp.where(mask, jnp.exp(jnp.where(mask, capped - log_z, 0.0)), 0.0)
    dscores = weights * (contracted("bnsh,bnth->bnst", value, dout) - delta)
    if rule.soft_cap is not None:
        dscores = dscores * (1 - jnp.square(capped / rule.soft_cap))
    weights, dscores = weights.astype(query.dtype), dscores.astype(query.dtype)
    dvalue = contracted("bnst,bnth->bnsh", weights, dout)
    dkey = contracted("bnst,bnth->bnsh", dscores, query)
    # by columns: rows would need the scores the other way round
    dquery = apart(contracted("bnhs,bnst->bnht", transposed(key), dscores))
    dquery = dquery.swapaxes(2, 3)
    return dquery.reshape(*key.shape[:2], groups, length, -1), dkey, dvalue


attend.defvjp(_attend_forward, _attend_backward)


def _capped(rule, scores):
    if rule.soft_cap is None:
        return scores
    return rule.soft_cap * jnp.tanh(scores / rule.soft_cap)


def _blocks(length: int) -> list[tuple[int, int]]:
    """(start, end) of at most `MOST_BLOCKS` blocks of multiples of `BLOCK` slots."""
    size = BLOCK * max(1, -(-length // (BLOCK * MOST_BLOCKS)))
    return [(i, min(i + size, length)) for i in range(0, length, size)]
