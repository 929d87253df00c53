"""Preferences without a reward model: direct preference optimisation.

The policy itself is the reward model: r(x, y) = β log(π(y|x) / π_ref(y|x)).
"""

import jax
from jaxtyping import Array, Float

from rlhf_jax.losses.arguments import guarded, real, same_shape, scalar

__all__ = ["dpo_loss"]


def dpo_loss(
    chosen_logprobs: Float[Array, " B"],
    rejected_logprobs: Float[Array, " B"],
    ref_chosen_logprobs: Float[Array, " B"],
    ref_rejected_logprobs: Float[Array, " B"],
    *,
    beta: float | Float[Array, ""],
) -> Float[Array, " B"]:
    """The DPO loss, per pair.

        -log σ( β [ log π(y_w)/π_ref(y_w) - log π(y_l)/π_ref(y_l) ] )

    Args:
      chosen_logprobs: log π(y_w|x), nats, *summed* over the response's tokens.
      rejected_logprobs: log π(y_l|x), likewise.
      ref_chosen_logprobs: log π_ref(y_w|x), constants.
      ref_rejected_logprobs: log π_ref(y_l|x).
      beta: β, log-odds per nat (0.1 in the paper).

    Returns:
      float32, nats; log 2 where policy and reference agree.

    Raises:
      ValueError: the shapes differ.
      TypeError: integer logprobs.

    Source: Rafailov et al. 2023 (DPO), Eq. 7.

    >>> import jax.numpy as jnp
    >>> same = jnp.array([-3.0])
    >>> dpo_loss(same, same, same, same, beta=0.1).round(4).tolist()
    [0.693...]
    """
    arguments = {
        "chosen_logprobs": chosen_logprobs,
        "rejected_logprobs": rejected_logprobs,
        "ref_chosen_logprobs": ref_chosen_logprobs,
        "ref_rejected_logprobs": ref_rejected_logprobs,
    }
    logprobs = real(**arguments)
    same_shape(**arguments)
    return _dpo_loss(*logprobs, scalar(beta, logprobs[0]))


@guarded
def _dpo_loss(
    chosen: Array, rejected: Array, ref_chosen: Array, ref_rejected: Array, beta: Array
) -> Array:
    margins = (chosen - ref_chosen) - (rejected - ref_rejected)
    return -jax.nn.log_sigmoid(beta * margins)
