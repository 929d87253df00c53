"""Scores and logprobs -> rewards -> the advantage of each token.

    r(x, y) - β Σ_t log(π_old(y_t)/π_ref(y_t))        (InstructGPT eq. 2, per token)

"gae" asks a value model what each token was worth, as in the paper. "leave_one_out"
(RLOO, Ahmadian et al. 2024) and "group_normalized" (GRPO, Shao et al. 2024) compare the
responses to one prompt with each other and need none: every token of a response has
its response's advantage.
"""

import dataclasses
from collections.abc import Iterator

import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.losses import (
    generalized_advantages,
    group_advantages,
    leave_one_out_advantages,
    masked_whiten,
    shaped_rewards,
)

__all__ = ["ADVANTAGES", "RewardShaping", "advantages_of"]

ADVANTAGES = ("gae", "leave_one_out", "group_normalized")


@dataclasses.dataclass
class RewardShaping:
    """From a response's score to the advantage of each of its tokens."""

    # γ of the returns; InstructGPT C.4: no discount. For "gae" alone
    discount: float = 1.0
    # λ of GAE; NOT STATED by InstructGPT, 0.95 in Stiennon 2020 B.1. For "gae" alone
    gae_lambda: float = 0.95
    # divide rewards by their standard deviation, mean kept; NOT STATED, off as in
    # Huang et al. 2024 (N+ details); Ziegler 2019 had it on
    whiten_rewards: bool = False
    # advantages to mean 0 and standard deviation 1 over the rollout batch; NOT STATED.
    # None: on for "gae", as in Ziegler 2019 and Stiennon 2020 (there per minibatch),
    # off for the others
    whiten_advantages: bool | None = None
    # score of a response without an end token; None: whatever the reward model says.
    # NOT STATED; Ziegler 2019 and N+ use -1
    missing_end_score: float | None = None
    # "group_normalized": divide by the deviation of the prompt's scores, as in GRPO;
    # without it hard and easy prompts are not weighed up (Dr. GRPO, Liu et al. 2025)
    scale_by_deviation: bool = True

    def problems(self) -> Iterator[str]:
        """Values out of range, one line each."""
        for name in ("discount", "gae_lambda"):
            if not 0 <= getattr(self, name) <= 1:
                yield f"{name}: {getattr(self, name)} is not in [0, 1]"


def advantages_of(
    assessed: dict,
    kl_coef: Float[Array, ""] | float,
    shaping: RewardShaping,
    *,
    kind: str = "gae",
    samples_per_prompt: int = 1,
) -> dict:
    """Scores and logprobs -> rewards -> advantages and returns.

    A response whose score is not finite takes no part: its mask becomes empty, as if
    it had not been sampled, and `bad_scores` counts it.

    Args:
      assessed: of `make_assess`, with `scores` [B]; B·K rows, prompt by prompt.
      kl_coef: β of the rewards, scalar; 0 where the KL is a term of the loss.
      shaping: how.
      kind: one of `ADVANTAGES`.
      samples_per_prompt: K.

    Returns:
      `assessed` with `rewards`, `advantages` [B,R] and, for "gae", `returns` [B,R];
      and the mask without the rows whose score is not finite.

    Raises:
      TypeError: integer scores; they have lost their fraction somewhere.
    """
    scores = assessed["scores"]
    if not jnp.issubdtype(scores.dtype, jnp.floating):
        raise TypeError(f"scores must be floating point, got {scores.dtype}")
    if shaping.missing_end_score is not None:
        missing = jnp.where(jnp.isnan(scores), scores, shaping.missing_end_score)
        scores = jnp.where(assessed["finished"], scores, missing)
    good = jnp.isfinite(scores)
    mask = assessed["mask"] & good[:, None]
    scores = jnp.where(good, scores, 0.0)
    rewards = shaped_rewards(
        scores,
        assessed["old_logprobs"],
        assessed["ref_logprobs"],
        mask,
        kl_coef=kl_coef,
    )
    if shaping.whiten_rewards:
        rewards = masked_whiten(rewards, mask, shift_mean=False)
    shaped = dict(assessed, scores=scores, mask=mask, scored=good, rewards=rewards)
    if kind == "gae":
        advantages, shaped["returns"] = generalized_advantages(
            rewards,
            assessed["old_values"],
            mask,
            discount=shaping.discount,
            gae_lambda=shaping.gae_lambda,
        )
    else:
        advantages = _of_groups(rewards, mask, good, shaping, kind, samples_per_prompt)
    whiten = shaping.whiten_advantages
    if whiten or (whiten is None and kind == "gae"):
        advantages = masked_whiten(advantages, mask)
    return dict(shaped, advantages=advantages)


def _of_groups(
    rewards: Array, mask: Array, good: Array, shaping: RewardShaping, kind: str, k: int
) -> Float[Array, "B R"]:
    """Each response against the others to its prompt; the same at all its tokens."""
    totals = jnp.where(mask, rewards, 0.0).sum(axis=1).reshape(-1, k)
    valid = good.reshape(-1, k)
    if kind == "leave_one_out":
        found = leave_one_out_advantages(totals, valid)
    else:
        found = group_advantages(totals, valid, scale=shaping.scale_by_deviation)
    return jnp.where(mask, found.reshape(-1)[:, None], 0.0)
