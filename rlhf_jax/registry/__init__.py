"""Models by name: loaded, saved, joined, and asked for scores.

model_directory  what joins one stage to the next: model.json, params, tokenizer
ensemble         several reward models that score as one
"""

from rlhf_jax.registry.ensemble import load_reward, save_ensemble
from rlhf_jax.registry.model_directory import (
    LoadedModel,
    load_model,
    model_directory,
    require_one_tokenizer,
    reward_from,
    save_model,
    value_from,
)

__all__ = [
    "LoadedModel",
    "load_model",
    "load_reward",
    "model_directory",
    "require_one_tokenizer",
    "reward_from",
    "save_ensemble",
    "save_model",
    "value_from",
]
