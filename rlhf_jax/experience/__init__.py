"""What policies write, and what models say of it.

writer      prompts -> responses, on a mesh, any number per prompt, resumable
assess      what policy, reference, reward and value say of responses
shaping     scores -> rewards -> advantages: GAE, leave-one-out, groups
metrics     the numbers of a rollout that a person watches
self_check  what must hold before PPO starts
"""

from rlhf_jax.experience.assess import make_assess, make_distance
from rlhf_jax.experience.metrics import rollout_metrics
from rlhf_jax.experience.self_check import check_players
from rlhf_jax.experience.shaping import ADVANTAGES, RewardShaping, advantages_of
from rlhf_jax.experience.writer import Writer, Written, sample_batch, sampling_spec

__all__ = [
    "ADVANTAGES",
    "RewardShaping",
    "Writer",
    "Written",
    "advantages_of",
    "check_players",
    "make_assess",
    "make_distance",
    "rollout_metrics",
    "sample_batch",
    "sampling_spec",
]
