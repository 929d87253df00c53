"""One optimizer update as a pure function, the same for every stage and mesh."""

import functools
import itertools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from rlhf_jax.training.gradients import (
    LossFunction,
    add_over_devices,
    term_gradients,
    with_frozen,
    with_weights,
)
from rlhf_jax.training.optimizer import learning_rate_of
from rlhf_jax.training.state import TrainState, Transformations, check_partitions

Metrics = dict[str, Array]


def make_update(
    loss_fn: LossFunction | Mapping[str, LossFunction],
    tx: Transformations,
    *,
    microbatches: int = 1,
    clip_norm: float | Mapping[str, float] | None = None,
    ema_decay: float | None = None,
    switches: Mapping[str, str] | None = None,
    term_norms: bool = True,
) -> Callable[..., tuple[TrainState, Metrics]]:
    """Turns a loss and an optimizer into a step of training.

    At the head every (nested) "mask" of the batch gains "weights" that add to 1 over
    the global batch; a loss is a sum of values times weights. An update with a
    non-finite loss or gradient is skipped: parameters, moments, EMA and the schedule's
    count keep every bit, and only `step` and the counters move on.

    Args:
      loss_fn: `(params, batch, rng) -> (sum, metrics)`, scalars that add up over
        rows. One with a parameter named `frozen` is called with `frozen=` too: params
        that it reads and no gradient reaches (a reference, a reward model). They are
        an argument of the update; in a closure they would be constants of the
        program. Or a dict of such terms: their gradients are added.
      tx: the optimizer. Or a dict with one for each top-level key of the params
        (`{"policy": ..., "value": ...}`), each with its own learning rate, its own
        moments and its own clipping.
      microbatches: parts of the batch run one after the other to save memory.
      clip_norm: largest global norm of the gradient (of each partition, or by name).
      ema_decay: decay of the moving average per update; 0.992 in InstructGPT. Of what
        is averaged `init_state(.., ema=)` decides.
      term_norms: with several terms, the metrics tell the norms of their gradients and
        the cosines between them. That keeps a gradient per term until all are there;
        False adds the terms before differentiation, and keeps one.
      switches: partition -> key of the batch. Where the number there is 0 the
        partition rests: its parameters, moments and schedule's count keep every bit.

    Returns:
      `update(state, batch, frozen=None, *, axis_name=None) -> (state, metrics)`, not
      compiled; see `compile_update`. `axis_name` is for drivers that map over devices.
      Metrics:
      `loss`, `grad_norm`, `learning_rate`, `skipped` (0 or 1), `skipped_in_a_row`,
      the terms' `loss/<term>`, `grad_norm/<term>`, `grad_cosine/<a>_<b>`, the
      partitions' `grad_norm/<partition>`, `learning_rate/<partition>`, and what the
      losses give.

    Source: InstructGPT appendix C.4 (several terms in one step, EMA 0.992).
    Differs: optax's `apply_if_finite` lets the NaN through after n skips; this never
    does, the loop stops the run instead.
    """
    terms = dict(loss_fn) if isinstance(loss_fn, Mapping) else {"loss": loss_fn}
    partitions = set(tx) if isinstance(tx, Mapping) else set()
    if both := set(terms) & partitions:
        raise ValueError(f"{sorted(both)} name a term and a partition")
    if unknown := set(switches or ()) - partitions:
        raise ValueError(f"switches: {sorted(unknown)} are no partitions")

    def update(
        state: TrainState,
        batch: Any,
        frozen: Any = None,
        *,
        axis_name: str | None = None,
    ) -> tuple[TrainState, Metrics]:
        check_partitions(state.params, tx)
        rng = jax.random.fold_in(state.rng, state.step)
        if axis_name is not None:
            rng = jax.random.fold_in(rng, jax.lax.axis_index(axis_name))
        scale = 1.0 if state.loss_scale is None else state.loss_scale.scale
        sums = term_gradients(
            with_frozen(terms, frozen),
            state.params,
            with_weights(batch, axis_name),
            rng,
            microbatches=microbatches,
            scale=scale,
            apart=term_norms,
        )
        gradients, losses, metrics = add_over_devices(sums, axis_name)
        if state.loss_scale is not None:
            gradients = jax.tree.map(lambda g: g / scale, gradients)
        # in the order given: a dict that passed a scan comes back sorted
        losses = {name: losses[name] for name in terms}
        grads, own = _added(gradients, losses)
        grads, norms = _clipped(grads, clip_norm, partitioned=isinstance(tx, Mapping))
        own |= norms
        finite = jnp.isfinite(own["loss"]) & jnp.isfinite(own["grad_norm"])
        on = {name: batch[key] != 0 for name, key in (switches or {}).items()}
        applied = _applied(state, grads, tx, ema_decay, on)
        state = _guarded(state, applied, finite)
        own |= _counters(state, finite, tx)
        if taken := set(own) & set(metrics):
            raise ValueError(f"a loss gives metrics of the update: {sorted(taken)}")
        return state, own | metrics

    return update


def _added(gradients: dict[str, Any], losses: dict[str, Array]) -> tuple[Any, Metrics]:
    """The sum of the terms' gradients, and how the terms relate."""
    metrics = {"loss": sum(losses.values())}
    if len(losses) > 1:
        metrics |= {f"loss/{name}": loss for name, loss in losses.items()}
    if len(gradients) == 1:
        return next(iter(gradients.values())), metrics
    gradients = {name: gradients[name] for name in losses}
    norms = {name: optax.tree.norm(g) for name, g in gradients.items()}
    metrics |= {f"grad_norm/{name}": norm for name, norm in norms.items()}
    for a, b in itertools.combinations(gradients, 2):
        product = _product(gradients[a], gradients[b])
        scale = jnp.maximum(norms[a] * norms[b], jnp.finfo(jnp.float32).tiny)
        metrics[f"grad_cosine/{a}_{b}"] = product / scale
    return jax.tree.map(lambda *parts: sum(parts), *gradients.values()), metrics


def _product(a: Any, b: Any) -> Float[Array, ""]:
    """⟨a, b⟩ over all leaves, each with its axes: a flat one would leave its shards."""

    def one(x: Array, y: Array) -> Array:
        axes = tuple(range(x.ndim))
        return jax.lax.dot_general(x, y, ((axes, axes), ((), ())))

    return sum(jax.tree.leaves(jax.tree.map(one, a, b)))


def _clipped(
    grads: Any, clip_norm: float | Mapping[str, float] | None, *, partitioned: bool
) -> tuple[Any, Metrics]:
    """Gradients scaled to at most `clip_norm`, and their norms before."""
    if not partitioned:
        norm = optax.tree.norm(grads)
        return _scaled_to(grads, norm, clip_norm), {"grad_norm": norm}
    norms = {name: optax.tree.norm(part) for name, part in grads.items()}
    limits = clip_norm if isinstance(clip_norm, Mapping) else {}
    default = None if isinstance(clip_norm, Mapping) else clip_norm
    clipped = {
        name: _scaled_to(part, norms[name], limits.get(name, default))
        for name, part in grads.items()
    }
    total = jnp.sqrt(sum(jnp.square(norm) for norm in norms.values()))
    named = {f"grad_norm/{name}": norm for name, norm in norms.items()}
    return clipped, {"grad_norm": total} | named


def _scaled_to(grads: Any, norm: Float[Array, ""], limit: float | None) -> Any:
    if limit is None:
        return grads
    factor = jnp.where(norm > limit, limit / norm, 1.0)
    return jax.tree.map(lambda g: g * factor, grads)


def _applied(
    state: TrainState,
    grads: Any,
    tx: Transformations,
    ema_decay: float | None,
    on: Mapping[str, Bool[Array, ""]],
) -> TrainState:
    """The state as if the gradients were finite; partitions that are not on rest."""
    if isinstance(tx, Mapping):
        moved, opt_state = {}, {}
        for name, part in tx.items():
            old = state.params[name], state.opt_state[name]
            steps, moments = part.update(grads[name], old[1], old[0])
            new = optax.apply_updates(old[0], steps), moments
            if name in on:
                keep = functools.partial(jnp.where, on[name])
                new = jax.tree.map(keep, new, old)
            moved[name], opt_state[name] = new
    else:
        steps, opt_state = tx.update(grads, state.opt_state, state.params)
        moved = optax.apply_updates(state.params, steps)
    ema = state.ema
    if ema_decay is not None:
        if ema is None:
            raise ValueError("ema_decay is set, but the state was made with ema=False")
        averaged = (
            {name: moved[name] for name in ema} if isinstance(ema, Mapping) else moved
        )
        ema = jax.tree.map(
            lambda mean, p: ema_decay * mean + (1 - ema_decay) * p, ema, averaged
        )
    return state.replace(params=moved, opt_state=opt_state, ema=ema)


def _guarded(
    before: TrainState, applied: TrainState, finite: Bool[Array, ""]
) -> TrainState:
    """`applied` where the gradients were finite, else `before`; counters move on."""
    kept = jax.tree.map(
        lambda new, old: jnp.where(finite, new, old),
        (applied.params, applied.opt_state, applied.ema),
        (before.params, before.opt_state, before.ema),
    )
    hopeless, scale = ~finite, before.loss_scale
    if scale is not None:
        hopeless &= scale.scale <= 1.0
        scale = scale.adjusted(finite)
    in_a_row = jnp.where(hopeless, before.skipped_in_a_row + 1, 0)
    return before.replace(
        params=kept[0],
        opt_state=kept[1],
        ema=kept[2],
        step=before.step + 1,
        skipped=before.skipped + jnp.where(finite, 0, 1),
        skipped_in_a_row=in_a_row,
        loss_scale=scale,
    )


def _counters(
    state: TrainState, finite: Bool[Array, ""], tx: Transformations
) -> Metrics:
    counters = {
        "skipped": jnp.where(finite, 0, 1),
        "skipped_in_a_row": state.skipped_in_a_row,
    }
    if state.loss_scale is not None:
        counters["loss_scale"] = state.loss_scale.scale
    if isinstance(tx, Mapping):
        rates = {f"learning_rate/{n}": learning_rate_of(state.opt_state[n]) for n in tx}
    else:
        rates = {"learning_rate": learning_rate_of(state.opt_state)}
    return counters | {name: rate for name, rate in rates.items() if rate is not None}
