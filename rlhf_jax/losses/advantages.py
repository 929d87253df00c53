"""From one score per response to one advantage per token.

Time runs over the tokens of a response: the state before token t is the prompt with
y_<t, `values[:, t]` is its value, token t is the action, `rewards[:, t]` follows it.
A response is an episode: after its last token nothing more comes, so the value there
is 0, whether it ended by itself or was cut at the length limit.

Tokens where the mask is false do not exist: they have no reward and no value, and
masked tokens do not discount. The usual mask is a prefix (true through the end token);
a hole in the middle is stepped over, and the numbers are those of the response without
it.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from rlhf_jax.losses.arguments import real, same_shape, scalar, spread_as


def terminal_index(mask: Bool[Array, "B R"]) -> Int[Array, " B"]:
    """Where a response ends: the index of the last true entry of each row.

    The score stands there, and the reward model is read there. It comes from the mask,
    never from token ids: pad and end may be the same id.

    Args:
      mask: true through the end token.

    Returns:
      int32, tokens from 0; -1 for an empty row.

    Raises:
      ValueError: not [B, R].

    >>> terminal_index(jnp.array([[True, True, False], [False, False, False]])).tolist()
    [1, -1]
    """
    mask = jnp.asarray(mask).astype(jnp.bool_)
    if mask.ndim != 2:
        raise ValueError(f"mask has shape {mask.shape}: expected [B, R]")
    index = jnp.arange(mask.shape[1], dtype=jnp.int32)
    return jnp.max(jnp.where(mask, index[None, :], -1), axis=1, initial=-1)


def shaped_rewards(
    scores: Float[Array, " B"],
    logprobs: Float[Array, "B R"],
    ref_logprobs: Float[Array, "B R"],
    mask: Bool[Array, "B R"],
    *,
    kl_coef: float | Float[Array, ""],
) -> Float[Array, "B R"]:
    """The reward of each token: the price of its log-ratio, and at the end the score.

        r_t = -β (log π(y_t|·) - log π_SFT(y_t|·)) + 1[t = last] · r_θ(x, y)

    Their sum over a response is the bracket of the paper's objective.

    Args:
      scores: r_θ(x, y) of the reward model.
      logprobs: log π of the policy that sampled, nats.
      ref_logprobs: log π_SFT of the reference.
      mask: true through the end token; the score goes to its last true entry.
      kl_coef: β, reward per nat (0.02 in InstructGPT).

    Returns:
      float32, in the unit of the scores; 0 where the mask is false. An empty row has
      no token to carry its score: all 0.

    Raises:
      ValueError: the shapes do not fit.
      TypeError: integer scores or logprobs.

    Source: Ouyang et al. 2022, Eq. 2; per token: §3.5; β: App. C.4; the score at the
      end only: Stiennon et al. 2020.

    >>> shaped_rewards(jnp.array([1.0]), jnp.array([[-1.0, -2.0, -9.0]]),
    ...                jnp.array([[-1.5, -2.0, -3.0]]),
    ...                jnp.array([[True, True, False]]), kl_coef=0.5).tolist()
    [[-0.25, 1.0, 0.0]]
    """
    scores, logprobs, ref_logprobs = real(
        scores=scores, logprobs=logprobs, ref_logprobs=ref_logprobs
    )
    same_shape(logprobs=logprobs, ref_logprobs=ref_logprobs, mask=mask)
    if logprobs.ndim != 2 or scores.shape != logprobs.shape[:1]:
        raise ValueError(
            f"scores has shape {scores.shape} but logprobs has shape "
            f"{logprobs.shape}: expected [B] and [B, R]"
        )
    mask = jnp.asarray(mask).astype(jnp.bool_)
    # The inner where keeps NaN at padding out of the gradient.
    logprobs = jnp.where(mask, logprobs, 0)
    ref_logprobs = jnp.where(mask, ref_logprobs, 0)
    index = jnp.arange(mask.shape[1], dtype=jnp.int32)
    is_last = index[None, :] == terminal_index(mask)[:, None]
    at_end = jnp.where(is_last, scores[:, None], 0)
    return at_end - scalar(kl_coef, logprobs) * (logprobs - ref_logprobs)


def generalized_advantages(
    rewards: Float[Array, "B R"],
    values: Float[Array, "B R"],
    mask: Bool[Array, "B R"],
    *,
    discount: float | Float[Array, ""],
    gae_lambda: float | Float[Array, ""],
) -> tuple[Float[Array, "B R"], Float[Array, "B R"]]:
    """Generalised advantage estimation, and the targets of the value function.

        δ_t = r_t + γ V_{t+1} - V_t        V after the last token = 0
        Â_t = δ_t + γλ Â_{t+1}
        R̂_t = Â_t + V_t

    Args:
      rewards: of `shaped_rewards`.
      values: V of the state before each token, in the unit of the rewards.
      mask: true through the end token.
      discount: γ per token (1 in InstructGPT: App. C.4).
      gae_lambda: λ in [0, 1] (not stated in InstructGPT; 0.95 in Stiennon 2020, B.1).

    Returns:
      (advantages, returns), float32; 0 where the mask is false. Gradients flow
      through `values`: stop them where advantages are constants.

    Raises:
      ValueError: the shapes differ or are not [B, R].
      TypeError: integer rewards or values.

    Source: Schulman et al. 2016 (GAE), Eq. 16; their γ and λ.

    >>> advantages, returns = generalized_advantages(
    ...     jnp.array([[0.0, 1.0]]), jnp.array([[0.5, 0.25]]),
    ...     jnp.array([[True, True]]), discount=1.0, gae_lambda=1.0)
    >>> advantages.tolist(), returns.tolist()
    ([[0.5, 0.75]], [[1.0, 1.0]])
    """
    rewards, values = real(rewards=rewards, values=values)
    same_shape(rewards=rewards, values=values, mask=mask)
    mask = _rows(mask)
    rewards, values = jnp.where(mask, rewards, 0), jnp.where(mask, values, 0)
    discount = scalar(discount, rewards)
    decay = discount * scalar(gae_lambda, rewards)

    def backwards(later, now):
        later_advantage, later_value = later
        reward, value, exists = now
        delta = reward + discount * later_value - value
        advantage = delta + decay * later_advantage
        advantage = jnp.where(exists, advantage, later_advantage)
        return (advantage, jnp.where(exists, value, later_value)), advantage

    nothing = spread_as(jnp.zeros_like(rewards[:, 0]), rewards)
    nothing = nothing, spread_as(nothing, values)
    steps = rewards.T, values.T, mask.T
    _, advantages = jax.lax.scan(backwards, nothing, steps, reverse=True)
    advantages = jnp.where(mask, advantages.T, 0)
    return advantages, advantages + values


def discounted_returns(
    rewards: Float[Array, "B R"],
    mask: Bool[Array, "B R"],
    *,
    discount: float | Float[Array, ""],
) -> Float[Array, "B R"]:
    """What is still to come at each token.

        G_t = r_t + γ G_{t+1},   G after the last token = 0

    Args:
      rewards: of `shaped_rewards`.
      mask: true through the end token.
      discount: γ per token.

    Returns:
      float32, in the unit of the rewards; 0 where the mask is false.

    Raises:
      ValueError: the shapes differ or are not [B, R].
      TypeError: integer rewards.

    Source: Schulman et al. 2016, Eq. 18 (GAE with λ = 1 and V = 0).

    >>> discounted_returns(jnp.array([[1.0, 2.0, 5.0]]),
    ...                    jnp.array([[True, True, False]]), discount=0.5).tolist()
    [[2.0, 2.0, 0.0]]
    """
    (rewards,) = real(rewards=rewards)
    same_shape(rewards=rewards, mask=mask)
    mask = _rows(mask)
    rewards = jnp.where(mask, rewards, 0)
    discount = scalar(discount, rewards)

    def backwards(later, now):
        reward, exists = now
        total = jnp.where(exists, reward + discount * later, later)
        return total, total

    nothing = spread_as(jnp.zeros_like(rewards[:, 0]), rewards)
    _, returns = jax.lax.scan(backwards, nothing, (rewards.T, mask.T), reverse=True)
    return jnp.where(mask, returns.T, 0)


def _rows(mask: Array) -> Array:
    mask = jnp.asarray(mask).astype(jnp.bool_)
    if mask.ndim != 2 or mask.shape[1] == 0:
        raise ValueError(f"mask has shape {mask.shape}: expected [B, R] with R > 0")
    return mask
