"""How far the policy has moved from its reference, and the price of moving.

    KL(π ‖ π_ref) = E_{y~π}[ log π(y) - log π_ref(y) ]

Estimates take tokens that π sampled, and both logprobs at the sampler's temperature:
at any other temperature they estimate something else, and the KL of a policy to
itself is not 0.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.losses.arguments import guarded, real, same_shape, scalar

# Ziegler et al. 2019, §2.2: the relative error of the controller is clipped here.
MAX_KL_ERROR = 0.2


def kl_estimate(
    logprobs: Float[Array, "*shape"],
    ref_logprobs: Float[Array, "*shape"],
    *,
    kind: str = "k1",
) -> Float[Array, "*shape"]:
    """One-sample estimates of KL(π ‖ π_ref) at each token, from ρ = log π - log π_ref.

        k1 = ρ              unbiased; one sample can be negative
        k2 = ½ ρ²           biased (agrees to second order near ρ = 0); never negative
        k3 = e^{-ρ} - 1 + ρ unbiased; never negative; inf where ρ < -88

    As a *loss* (differentiated through log π) they differ: the expected gradient of
    k1 is 0, of k2 it is ∇KL(π ‖ π_ref), of k3 it is ∇KL(π_ref ‖ π). GRPO's KL term is
    k3 in the loss, times β; its derivative by log π is 1 - e^{-ρ}.

    Args:
      logprobs: log π of tokens that π sampled, nats.
      ref_logprobs: log π_ref of the same tokens.
      kind: "k1", "k2" or "k3".

    Returns:
      float32, nats; 0 exactly where the logprobs are equal.

    Raises:
      ValueError: the shapes differ, or another kind.
      TypeError: integer logprobs.

    Source: k1: Ouyang et al. 2022, Eq. 2, the term with β; all three: Schulman 2020,
      "Approximating KL divergence"; k3 as a loss: Shao et al. 2024 (GRPO), Eq. 4.

    >>> logprobs, ref_logprobs = jnp.array([-1.0]), jnp.array([-0.5])
    >>> [kl_estimate(logprobs, ref_logprobs, kind=k).round(3).item()
    ...  for k in ("k1", "k2", "k3")]
    [-0.5, 0.125, 0.149...]
    """
    logprobs, ref_logprobs = real(logprobs=logprobs, ref_logprobs=ref_logprobs)
    same_shape(logprobs=logprobs, ref_logprobs=ref_logprobs)
    if kind not in _ESTIMATES:
        raise ValueError(f"kind is {kind!r}: expected one of {sorted(_ESTIMATES)}")
    return _ESTIMATES[kind](logprobs, ref_logprobs)


_ESTIMATES = {
    "k1": guarded(lambda lp, ref: lp - ref),
    "k2": guarded(lambda lp, ref: jnp.square(lp - ref) / 2),
    "k3": guarded(lambda lp, ref: jnp.expm1(ref - lp) + (lp - ref)),
}


def exact_kl(
    logits: Float[Array, "*shape V"], ref_logits: Float[Array, "*shape V"]
) -> Float[Array, "*shape"]:
    """The KL of the next token, over the whole vocabulary.

        KL(π ‖ π_ref) = Σᵥ π(v) (log π(v) - log π_ref(v))

    No estimate: nothing is sampled at this token (the prefix still is). Never negative
    but for rounding; inf where π can say what π_ref cannot.

    Args:
      logits: of the policy, divided by the sampler's temperature.
      ref_logits: of the reference, divided by the same.

    Returns:
      float32, nats; 0 exactly where the logits are equal.

    Raises:
      ValueError: the shapes differ.
      TypeError: integer logits.

    >>> certain, even = jnp.array([0.0, -jnp.inf]), jnp.zeros(2)
    >>> exact_kl(certain, even).round(4).item()
    0.693...
    """
    logits, ref_logits = real(logits=logits, ref_logits=ref_logits)
    same_shape(logits=logits, ref_logits=ref_logits)
    return _exact_kl(logits, ref_logits)


@guarded
def _exact_kl(logits: Array, ref_logits: Array) -> Array:
    logprobs = jax.nn.log_softmax(logits, axis=-1)
    ref_logprobs = jax.nn.log_softmax(ref_logits, axis=-1)
    # 0 · (log 0 - anything) = 0, in the gradient too.
    possible = logprobs != -jnp.inf
    logprobs = jnp.where(possible, logprobs, 0)
    ref_logprobs = jnp.where(possible, ref_logprobs, 0)
    probs = jnp.where(possible, jnp.exp(logprobs), 0)
    return jnp.sum(probs * (logprobs - ref_logprobs), axis=-1)


def adaptive_kl_coef(
    kl_coef: Float[Array, ""] | float,
    observed_kl: Float[Array, ""] | float,
    *,
    target: float,
    horizon: float,
    num_episodes: int,
) -> Float[Array, ""]:
    """The next β of a proportional controller that holds the KL at a target.

        e  = clip(KL / KL_target - 1, -0.2, 0.2)
        β' = β (1 + e · n / horizon)

    A fixed coefficient, as in InstructGPT (β = 0.02), needs no function.

    Args:
      kl_coef: β, reward per nat.
      observed_kl: mean KL of the last batch, nats per episode (summed over tokens).
      target: KL_target, nats per episode, positive.
      horizon: episodes over which an error of 100 % would double β, were it not
        clipped; the released code uses 10,000.
      num_episodes: n, episodes of the last batch.

    Returns:
      β', float32 scalar. NaN if the observed KL is NaN.

    Raises:
      ValueError: a target or horizon that is not positive.

    Source: Ziegler et al. 2019, §2.2 (e_t and β_{t+1}); the paper's K_β = 0.1
      is n/horizon in the released code.

    >>> adaptive_kl_coef(0.1, 12.0, target=6.0, horizon=1000, num_episodes=500).item()
    0.11...
    """
    if not (target > 0 and horizon > 0):
        raise ValueError(f"target {target} and horizon {horizon} must be positive")
    observed_kl = jnp.asarray(observed_kl, jnp.float32)
    error = jnp.clip(observed_kl / target - 1, -MAX_KL_ERROR, MAX_KL_ERROR)
    return scalar(kl_coef, observed_kl) * (1 + error * (num_episodes / horizon))
