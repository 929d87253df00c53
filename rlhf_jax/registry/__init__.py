"""Models by name: loaded, saved, joined, and asked for scores.

loaded           a model in memory: params, tokenizer, form
directories      what joins one stage to the next: model.json, params, tokenizer
seal             what vouches for a directory
adapters         models that are a change of a base, and the base they share
ensemble         several reward models that score as one
reward           Reward: a model, an ensemble, an encoder or a function that scores text
encoder          the encoder reward model as a Reward
functions        a Python function as a Reward
"""

from rlhf_jax.registry.adapters import Adapter, merged_model, on_base, with_adapter
from rlhf_jax.registry.directories import (
    load_model,
    load_reader,
    model_directory,
    save_model,
)
from rlhf_jax.registry.encoder import EncoderReward, fresh_encoder, load_bert
from rlhf_jax.registry.ensemble import Combination, save_ensemble
from rlhf_jax.registry.functions import FunctionReward
from rlhf_jax.registry.loaded import (
    LoadedModel,
    form_of,
    light_params,
    require_language_model,
    require_one_tokenizer,
    reward_from,
    value_from,
)
from rlhf_jax.registry.reward import (
    ModelReward,
    Reward,
    as_reward,
    load_reward,
    load_reward_model,
    reward_account,
    reward_of,
    score_records,
)

__all__ = [
    "Adapter",
    "Combination",
    "EncoderReward",
    "FunctionReward",
    "LoadedModel",
    "ModelReward",
    "Reward",
    "as_reward",
    "form_of",
    "fresh_encoder",
    "light_params",
    "load_bert",
    "load_model",
    "load_reader",
    "load_reward",
    "load_reward_model",
    "merged_model",
    "model_directory",
    "on_base",
    "require_language_model",
    "require_one_tokenizer",
    "reward_account",
    "reward_from",
    "reward_of",
    "save_ensemble",
    "save_model",
    "score_records",
    "value_from",
    "with_adapter",
]
