"""Preferences without a reward model: the policy against its reference.

The policy itself is the reward model: r(x, y) = β log(π(y|x) / π_ref(y|x)). DPO and IPO
take pairs, KTO single responses that are good or bad.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rlhf_jax.losses.arguments import guarded, real, same_shape, scalar


def dpo_loss(
    chosen_logprobs: Float[Array, " B"],
    rejected_logprobs: Float[Array, " B"],
    ref_chosen_logprobs: Float[Array, " B"],
    ref_rejected_logprobs: Float[Array, " B"],
    *,
    beta: float | Float[Array, ""],
    label_smoothing: float = 0.0,
    robust: bool = False,
) -> Float[Array, " B"]:
    """The DPO loss, per pair; also for labels of which a share ε is wrong.

        h = β [ log π(y_w)/π_ref(y_w) - log π(y_l)/π_ref(y_l) ]

        -log σ(h)                                              DPO
        -(1-ε) log σ(h) - ε log σ(-h)                          conservative DPO
        [ -(1-ε) log σ(h) + ε log σ(-h) ] / (1 - 2ε)           robust DPO

    Conservative DPO is least at the margin h = log((1-ε)/ε). The mean of robust DPO
    over labels flipped with probability ε is DPO of the true labels; it has no lower
    bound.

    Args:
      chosen_logprobs: log π(y_w|x), nats, *summed* over the response's tokens.
      rejected_logprobs: log π(y_l|x), likewise.
      ref_chosen_logprobs: log π_ref(y_w|x), constants.
      ref_rejected_logprobs: log π_ref(y_l|x).
      beta: β, log-odds per nat (0.1 in the paper).
      label_smoothing: ε in [0, ½), a Python number.
      robust: robust instead of conservative; the same at ε = 0.

    Returns:
      float32, nats; log 2 where policy and reference agree.

    Raises:
      ValueError: the shapes differ, or another ε.
      TypeError: integer logprobs.

    Source: Rafailov et al. 2023 (DPO), Eq. 7; Mitchell 2023 (A note on DPO with noisy
      preferences), Eq. 3; Chowdhury et al. 2024 (Provably robust DPO).

    >>> same = jnp.array([-3.0])
    >>> dpo_loss(same, same, same, same, beta=0.1).round(4).tolist()
    [0.693...]
    """
    if not 0 <= label_smoothing < 0.5:
        raise ValueError(f"label_smoothing is {label_smoothing}: expected [0, 0.5)")
    logprobs = _pair(
        chosen_logprobs, rejected_logprobs, ref_chosen_logprobs, ref_rejected_logprobs
    )
    beta = scalar(beta, logprobs[0])
    if label_smoothing == 0:
        return _dpo_loss(*logprobs, beta)
    right, wrong = 1 - label_smoothing, label_smoothing
    if robust:
        right, wrong = right / (right - wrong), -wrong / (right - wrong)
    return _smoothed_dpo_loss(*logprobs, beta, scalar(right, beta), scalar(wrong, beta))


@guarded
def _dpo_loss(*logprobs_and_beta: Array) -> Array:
    *logprobs, beta = logprobs_and_beta
    return -jax.nn.log_sigmoid(beta * _margins(*logprobs))


@guarded
def _smoothed_dpo_loss(*arrays: Array) -> Array:
    *logprobs, beta, right, wrong = arrays
    rewards = beta * _margins(*logprobs)
    return -right * jax.nn.log_sigmoid(rewards) - wrong * jax.nn.log_sigmoid(-rewards)


def ipo_loss(
    chosen_logprobs: Float[Array, " B"],
    rejected_logprobs: Float[Array, " B"],
    ref_chosen_logprobs: Float[Array, " B"],
    ref_rejected_logprobs: Float[Array, " B"],
    *,
    beta: float | Float[Array, ""],
) -> Float[Array, " B"]:
    """The IPO loss, per pair: a regression of the margin on 1/(2β).

        ( log π(y_w)/π_ref(y_w) - log π(y_l)/π_ref(y_l) - 1/(2β) )²

    Args:
      chosen_logprobs: log π(y_w|x), nats, *summed* over the response's tokens, as the
        paper has it. (TRL divides all four by the number of tokens: another loss;
        give means here to have it.)
      rejected_logprobs: log π(y_l|x), likewise.
      ref_chosen_logprobs: log π_ref(y_w|x), constants.
      ref_rejected_logprobs: log π_ref(y_l|x).
      beta: the paper's τ, the weight of the KL, per nat; positive.

    Returns:
      float32, nats², ≥ 0; 1/(2β)² where policy and reference agree.

    Raises:
      ValueError: the shapes differ.
      TypeError: integer logprobs.

    Source: Azar et al. 2023 (A general theoretical paradigm), Eq. 17.

    >>> same = jnp.array([-3.0])
    >>> ipo_loss(same, same, same, same, beta=0.5).tolist()
    [1.0]
    """
    logprobs = _pair(
        chosen_logprobs, rejected_logprobs, ref_chosen_logprobs, ref_rejected_logprobs
    )
    return _ipo_loss(*logprobs, scalar(beta, logprobs[0]))


@guarded
def _ipo_loss(*logprobs_and_beta: Array) -> Array:
    *logprobs, beta = logprobs_and_beta
    return jnp.square(_margins(*logprobs) - 1 / (2 * beta))


def kto_loss(
    logprobs: Float[Array, " B"],
    ref_logprobs: Float[Array, " B"],
    desirable: Bool[Array, " B"],
    *,
    beta: float | Float[Array, ""],
    kl_baseline: float | Float[Array, ""],
    desirable_weight: float | Float[Array, ""] = 1.0,
    undesirable_weight: float | Float[Array, ""] = 1.0,
) -> Float[Array, " B"]:
    """The KTO loss, per response: no pairs, each response is good or bad.

        λ_D (1 - σ( β (r - z) ))        desirable
        λ_U (1 - σ( β (z - r) ))        undesirable        r = log π(y|x)/π_ref(y|x)

    The reference point z is KL(π ‖ π_ref), estimated over the global batch: max(0, the
    mean of log π(y'|x)/π_ref(y'|x)), where y' is the response to another prompt of the
    batch (the paper shifts the responses by one).

    Args:
      logprobs: log π(y|x), nats, *summed* over the response's tokens.
      ref_logprobs: log π_ref(y|x), constants.
      desirable: a good response.
      beta: β, log-odds per nat (0.1 in the paper).
      kl_baseline: z, nats, ≥ 0; a constant: it gets no gradient.
      desirable_weight: λ_D; with n_D good and n_U bad responses choose the weights so
        that λ_D n_D is near λ_U n_U.
      undesirable_weight: λ_U.

    Returns:
      float32, without unit, between 0 and λ; λ/2 where r = z. It is the paper's
      λ_y - v(x, y).

    Raises:
      ValueError: the shapes differ.
      TypeError: integer logprobs.

    Source: Ethayarajh et al. 2024 (KTO), Eq. 8.

    >>> same = jnp.array([-3.0, -3.0])
    >>> kto_loss(same, same, jnp.array([True, False]), beta=0.1, kl_baseline=0.0,
    ...          undesirable_weight=2.0).tolist()
    [0.5, 1.0]
    """
    arrays = {"logprobs": logprobs, "ref_logprobs": ref_logprobs}
    same_shape(**arrays, desirable=desirable)
    logprobs, ref_logprobs = real(**arrays)
    desirable = jnp.asarray(desirable).astype(jnp.bool_)
    settings = beta, kl_baseline, desirable_weight, undesirable_weight
    settings = [scalar(setting, logprobs) for setting in settings]
    return _kto_loss(logprobs, ref_logprobs, desirable, *settings)


@guarded
def _kto_loss(
    logprobs: Array,
    ref_logprobs: Array,
    desirable: Array,
    beta: Array,
    kl_baseline: Array,
    desirable_weight: Array,
    undesirable_weight: Array,
) -> Array:
    gains = beta * (logprobs - ref_logprobs - jax.lax.stop_gradient(kl_baseline))
    weights = jnp.where(desirable, desirable_weight, undesirable_weight)
    return weights * jax.nn.sigmoid(jnp.where(desirable, -gains, gains))


def _pair(
    chosen: Array, rejected: Array, ref_chosen: Array, ref_rejected: Array
) -> list[Array]:
    arguments = {
        "chosen_logprobs": chosen,
        "rejected_logprobs": rejected,
        "ref_chosen_logprobs": ref_chosen,
        "ref_rejected_logprobs": ref_rejected,
    }
    same_shape(**arguments)
    return real(**arguments)


def _margins(
    chosen: Array, rejected: Array, ref_chosen: Array, ref_rejected: Array
) -> Array:
    return (chosen - ref_chosen) - (rejected - ref_rejected)
