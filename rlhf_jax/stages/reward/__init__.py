"""The reward model, from K-wise rankings (InstructGPT section 3.5, appendix C.2).

    loss(θ) = -1/C(K,2) E_{(x, y_w, y_l) ~ D}[ log σ(r_θ(x, y_w) - r_θ(x, y_l)) ]

All comparisons of a prompt are one element of the batch: each response is forwarded
once, the prompt once for all of them, and every prompt weighs the same however many
responses it has. Ties are dropped. After training a bias makes the demonstrations
score 0 on average; the loss does not see it.

    config      the settings and their sources
    objective   scores of a batch, the ranking loss
    measure     accuracy, calibration, length; the bias
    run         a single model, or an ensemble of seeds
"""

from rlhf_jax.stages.reward.config import Config
from rlhf_jax.stages.reward.measure import centre_on_demonstrations, ranking_report
from rlhf_jax.stages.reward.objective import make_loss, ranking_scores
from rlhf_jax.stages.reward.run import run, train

__all__ = [
    "Config",
    "centre_on_demonstrations",
    "make_loss",
    "ranking_report",
    "ranking_scores",
    "run",
    "train",
]
