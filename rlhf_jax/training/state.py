"""Everything that a step of training changes, as one pytree."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key

Transformations = optax.GradientTransformation | Mapping[str, Any]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class LossScale:
    """Dynamic scaling of the loss, for float16 compute only.

    The loss is multiplied by `scale` so that small gradients stay above the smallest
    float16. An overflow halves the scale; `growth_interval` good updates double it.

    Attributes:
      scale: the factor, a power of two.
      good_updates: updates since the scale last changed.
    """

    scale: Float[Array, ""]
    good_updates: Int[Array, ""]
    growth_interval: int = dataclasses.field(
        default=2000, metadata={"static": True}
    )  # updates; default of Micikevicius et al. 2018

    def adjusted(self, finite: Array) -> "LossScale":
        """The scale for the next update."""
        grows = self.good_updates + 1 >= self.growth_interval
        if_good = jnp.where(grows, self.scale * 2, self.scale)
        scale = jnp.where(finite, if_good, jnp.maximum(self.scale / 2, 1.0))
        count = jnp.where(finite & ~grows, self.good_updates + 1, 0)
        return dataclasses.replace(self, scale=scale, good_updates=count)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """The train state; a checkpoint is this and nothing else.

    Attributes:
      params: float32 parameters, nested dicts.
      opt_state: state of the optimizer; a dict by partition where there are several.
      ema: float32 moving average of `params`, or of some of its top-level keys, or
        None.
      step: updates tried so far, skipped ones too; names the randomness of the next.
      rng: typed key of the run; never advanced, only folded with names.
      skipped: updates skipped because of non-finite gradients.
      skipped_in_a_row: how many of the latest updates were; an overflow that a lower
        loss scale may cure does not count.
      loss_scale: for float16, or None.
      extra: what a stage adds (KL controller, reward normaliser, ...), a pytree.
    """

    params: Any
    opt_state: Any
    ema: Any
    step: Int[Array, ""]
    rng: Key[Array, ""]
    skipped: Int[Array, ""]
    skipped_in_a_row: Int[Array, ""]
    loss_scale: LossScale | None = None
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def replace(self, **changes: Any) -> "TrainState":
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)


def first_loss_scale(dtype: str) -> float | None:
    """Where dynamic loss scaling begins for a compute dtype; None: it needs none."""
    return 2.0**15 if dtype == "float16" else None


def init_state(
    params: Any,
    tx: Transformations,
    rng: Key[Array, ""],
    *,
    ema: bool | Sequence[str] = False,
    loss_scale: float | None = None,
    extra: Mapping[str, Any] | None = None,
) -> TrainState:
    """The state before the first update; pure, so it runs under `init_sharded`.

    Args:
      params: float32 parameters.
      tx: the optimizer, or one per top-level key of `params` as for `make_update`.
      rng: typed key of the run.
      ema: keep a moving average of the parameters; of some: their top-level keys,
        such as ("policy",).
      loss_scale: first loss scale for float16 compute (2**15 is usual), or None.
      extra: what the stage adds.

    Returns:
      A `TrainState` at step 0.
    """
    check_partitions(params, tx)
    # copies: updates donate the state, and the caller may keep params (a reference)
    params = jax.tree.map(jnp.copy, params)
    if isinstance(tx, Mapping):
        opt_state = {name: part.init(params[name]) for name, part in tx.items()}
    else:
        opt_state = tx.init(params)
    scale = None
    if loss_scale is not None:
        scale = LossScale(jnp.float32(loss_scale), jnp.int32(0))
    return TrainState(
        params=params,
        opt_state=opt_state,
        ema=_first_average(params, ema),
        step=jnp.int32(0),
        rng=rng,
        skipped=jnp.int32(0),
        skipped_in_a_row=jnp.int32(0),
        loss_scale=scale,
        extra=dict(extra or {}),
    )


def _first_average(params: Any, ema: bool | Sequence[str]) -> Any:
    if not ema:
        return None
    if ema is not True:
        if unknown := set(ema) - set(params):
            raise ValueError(f"ema: params have no {sorted(unknown)}")
        params = {name: params[name] for name in ema}
    return jax.tree.map(lambda p: jnp.array(p, jnp.float32), params)


def check_partitions(params: Any, tx: Transformations) -> None:
    """Raises ValueError where `tx` by partition does not cover `params` exactly."""
    if isinstance(tx, Mapping) and set(tx) != set(params):
        raise ValueError(
            f"tx has partitions {sorted(tx)}, params have {sorted(params)}: every "
            "top-level key needs its optimizer (optax.set_to_zero() freezes one)"
        )
