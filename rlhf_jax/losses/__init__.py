"""The mathematics of RLHF: pure functions of arrays, one value per token or prompt.

Nothing here knows params, models, configs or devices, and nothing reduces but
`normalize` and `weighted_sum`. Every function holds its shapes (ValueError), refuses
integer scores and logprobs (TypeError), computes in float32 or wider, gives exactly 0
gradient where no weight falls (whatever stands there), and hides no NaN that carries
weight.

    arguments        what a loss accepts; the guard against 0 · NaN
    reduction        masks -> weights over the global batch -> sums; whitening
    likelihood       logprobs of tokens (SFT, pretraining, ptx), the shift, entropy
    ranking          the reward model's K-wise loss (Eq. 1), also of soft labels
    kl               estimates, the exact KL, the adaptive coefficient
    advantages       scores -> rewards per token (Eq. 2) -> advantages and returns
    groups           advantages without a value model: RLOO, GRPO, Dr. GRPO
    policy_gradient  PPO: clipped policy and value loss
    preference       DPO (also of noisy labels), IPO, KTO: against a reference
    reference_free   SimPO, ORPO
    best_of_n        KL and expected gold reward of best-of-n
    ensemble         several reward models into one score
    chunked          logprobs, entropy and KL from hidden states, never [B, T, V]
    chunking         how: project a chunk of tokens, reduce it, forget it
"""

from rlhf_jax.losses.advantages import (
    discounted_returns,
    generalized_advantages,
    shaped_rewards,
    terminal_index,
)
from rlhf_jax.losses.best_of_n import best_of_n_estimate, best_of_n_kl
from rlhf_jax.losses.chunked import (
    TokenStatistics,
    chunked_comparison,
    chunked_exact_kl,
    chunked_logprobs,
)
from rlhf_jax.losses.ensemble import (
    ensemble_mean,
    ensemble_min,
    ensemble_uncertainty_weighted,
)
from rlhf_jax.losses.groups import group_advantages, leave_one_out_advantages
from rlhf_jax.losses.kl import adaptive_kl_coef, exact_kl, kl_estimate
from rlhf_jax.losses.likelihood import (
    entropy,
    next_token_logprobs,
    next_token_loss,
    next_token_pairs,
    token_logprobs,
)
from rlhf_jax.losses.policy_gradient import clipped_policy_loss, clipped_value_loss
from rlhf_jax.losses.preference import dpo_loss, ipo_loss, kto_loss
from rlhf_jax.losses.ranking import (
    pairwise_ranking_loss,
    ranking_accuracy,
    ranking_loss,
    soft_ranking_loss,
    untied_pairs,
)
from rlhf_jax.losses.reduction import (
    masked_mean,
    masked_whiten,
    normalize,
    weighted_sum,
)
from rlhf_jax.losses.reference_free import orpo_loss, simpo_loss

__all__ = [
    "TokenStatistics",
    "adaptive_kl_coef",
    "best_of_n_estimate",
    "best_of_n_kl",
    "chunked_comparison",
    "chunked_exact_kl",
    "chunked_logprobs",
    "clipped_policy_loss",
    "clipped_value_loss",
    "discounted_returns",
    "dpo_loss",
    "ensemble_mean",
    "ensemble_min",
    "ensemble_uncertainty_weighted",
    "entropy",
    "exact_kl",
    "generalized_advantages",
    "group_advantages",
    "ipo_loss",
    "kl_estimate",
    "kto_loss",
    "leave_one_out_advantages",
    "masked_mean",
    "masked_whiten",
    "next_token_logprobs",
    "next_token_loss",
    "next_token_pairs",
    "normalize",
    "orpo_loss",
    "pairwise_ranking_loss",
    "ranking_accuracy",
    "ranking_loss",
    "shaped_rewards",
    "simpo_loss",
    "soft_ranking_loss",
    "terminal_index",
    "token_logprobs",
    "untied_pairs",
    "weighted_sum",
]
