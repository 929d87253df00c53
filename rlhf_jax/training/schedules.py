"""The learning rate as a function of the number of updates applied."""

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rlhf_jax.errors import InputError

Schedule = Callable[[Int[Array, ""]], Float[Array, ""]]


@dataclasses.dataclass
class ScheduleConfig:
    """Learning rate over the updates of a run."""

    # highest rate, per update
    learning_rate: float = 1e-5
    # "cosine" or "linear" down to final_fraction, or "constant"
    schedule: str = "cosine"
    # rate at the end as a share of the highest; 0.1 for SFT, RM (InstructGPT, app. C)
    final_fraction: float = 0.1
    # updates of linear warm-up
    warmup_steps: int = 0
    # rate of the first update as a share of the highest; 0.1 for PPO (app. C.4)
    warmup_from: float = 0.1


def learning_rate_schedule(
    config: ScheduleConfig, num_steps: int | None = None
) -> Schedule:
    """η(t) for the update with t updates before it.

        t < W:   η(t) = η · (w₀ + (1 − w₀) t / W)
        t ≥ W:   u = min((t − W) / (N − W), 1)
                 cosine  η(t) = η · (f + (1 − f) · ½(1 + cos πu))
                 linear  η(t) = η · (f + (1 − f)(1 − u))

    Args:
      config: η `learning_rate`, W `warmup_steps`, w₀ `warmup_from`,
        f `final_fraction`, and the shape.
      num_steps: N, updates of the whole run; a constant rate needs none.

    Returns:
      A function from the count of updates to the rate, float32.

    Raises:
      InputError: an unknown schedule, numbers out of range, or no `num_steps`.

    Source: InstructGPT appendix C.1 to C.4.
    """
    _check(config, num_steps)
    warmup, floor = config.warmup_steps, config.final_fraction

    def decay(progress: Array) -> Array:
        if config.schedule == "cosine":
            return floor + (1 - floor) * 0.5 * (1 + jnp.cos(jnp.pi * progress))
        if config.schedule == "linear":
            return floor + (1 - floor) * (1 - progress)
        return jnp.ones_like(progress)

    def schedule(count: Int[Array, ""]) -> Float[Array, ""]:
        count = jnp.asarray(count, jnp.float32)
        ramp = config.warmup_from + (1 - config.warmup_from) * count / max(warmup, 1)
        span = max((num_steps or 0) - warmup, 1)
        share = decay(jnp.clip((count - warmup) / span, 0.0, 1.0))
        return config.learning_rate * jnp.where(count < warmup, ramp, share)

    return schedule


def _check(config: ScheduleConfig, num_steps: int | None) -> None:
    kinds = ("cosine", "linear", "constant")
    if config.schedule not in kinds:
        raise InputError(f"schedule={config.schedule!r}: expected one of {kinds}")
    if config.schedule != "constant" and not num_steps:
        raise InputError(f"schedule={config.schedule!r} needs the number of updates")
    if config.learning_rate < 0 or config.warmup_steps < 0:
        raise InputError("learning_rate and warmup_steps must not be negative")
    for name in ("final_fraction", "warmup_from"):
        if not 0 <= getattr(config, name) <= 1:
            raise InputError(f"{name}={getattr(config, name)}: expected 0 to 1")
