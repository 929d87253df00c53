"""DPO and its kin: the rankings without a reward model, and without sampling.

    loss      of                  takes            reference   source
    "dpo"     untied pairs        log π(y|x)       yes         Rafailov et al. 2023
    "ipo"     untied pairs        log π(y|x)       yes         Azar et al. 2023
    "kto"     good and bad ones   log π(y|x)       yes         Ethayarajh et al. 2024
    "simpo"   untied pairs        log π(y|x)/|y|   no          Meng et al. 2024
    "orpo"    untied pairs        log π(y|x)/|y|   no          Hong et al. 2024

A ranking of K responses stays together: the prompt is forwarded once, every untied pair
counts (of KTO every response that is not in the middle), and every prompt weighs the
same. `pipeline.rounds.online_rounds` makes online DPO of it.

    config      the settings and their sources
    objective   log-probabilities of a batch, the losses, KTO's reference point
    run         on objects, and as a stage
"""

from rlhf_jax.stages.dpo.config import Config
from rlhf_jax.stages.dpo.objective import kl_baseline, make_loss, response_logprobs
from rlhf_jax.stages.dpo.run import run, train

__all__ = ["Config", "kl_baseline", "make_loss", "response_logprobs", "run", "train"]
