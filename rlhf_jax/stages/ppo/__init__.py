"""PPO with a per-token KL penalty and a pretraining mix (InstructGPT eq. 2).

    objective(φ) = E_{(x,y) ~ π_φ}[ r_θ(x,y) - β log(π_φ(y|x)/π_SFT(y|x)) ]
                 + γ E_{x ~ D_pretrain}[ log π_φ(x) ]

γ = 0 is the paper's "PPO", γ = 27.8 its "PPO-ptx", the model it calls InstructGPT.

    config      the settings and their sources
    objective   the terms of an update: surrogate, value error, ptx
    cast        who takes part; the params of each role, a shared base once
    iteration   sample, assess, shape, update: one step of the loop
    run         `train` on objects, `run` as a stage: models in, policy out
    alarms      what is watched
"""

from rlhf_jax.experience import RewardShaping
from rlhf_jax.stages.ppo.cast import Players
from rlhf_jax.stages.ppo.config import Config, KLControl
from rlhf_jax.stages.ppo.iteration import Iteration
from rlhf_jax.stages.ppo.objective import make_loss
from rlhf_jax.stages.ppo.run import run, train

__all__ = [
    "Config",
    "Iteration",
    "KLControl",
    "Players",
    "RewardShaping",
    "make_loss",
    "run",
    "train",
]
