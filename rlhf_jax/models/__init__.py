"""Decoders and their heads; the only room that imports flax.

config      `TrunkConfig`: a family is its fields
sizes       GPT-3's sizes by name
trunk       embedding, stacked blocks by scan, final norm
block       attention and MLP around the residual stream
norms, positions, products   the parts of a block
attention   softmax attention in blocks, without stored scores
sight       who sees whom: padding, packing, cache, prefix
kernels     cuDNN and TPU attention behind `TrunkConfig.attention`
cache       keys and values of tokens already read
heads       `LanguageModel`, `ScalarModel`, `init_params`
pretrained, export   checkpoints in transformers' layout
families, dialects, weights   their tensors, their config.json, their files
adapters    LoRA: small trees beside a frozen base; low_rank: their products
peft        adapters in the layout of Hugging Face's PEFT
prefix      K responses against one prompt, computed once
encoder, pretrained_encoder   the BERT reward model, a baseline
"""

from rlhf_jax.models.adapters import (
    LoRA,
    adapted,
    adapter_of,
    base_params,
    init_adapter,
    merged,
    with_changes,
)
from rlhf_jax.models.cache import KVCache, grow_cache, init_cache
from rlhf_jax.models.config import RopeScaling, TrunkConfig
from rlhf_jax.models.encoder import (
    Encoder,
    EncoderConfig,
    EncoderRewardModel,
)
from rlhf_jax.models.export import save_pretrained
from rlhf_jax.models.heads import (
    LanguageModel,
    ScalarModel,
    init_params,
    last_values,
)
from rlhf_jax.models.prefix import (
    shared_prefix_hidden,
    shared_prefix_values,
)
from rlhf_jax.models.pretrained import (
    Pretrained,
    abstract_params,
    leaf_paths,
    load_pretrained,
    model_of,
    pretrained_shapes,
)
from rlhf_jax.models.pretrained_encoder import (
    PretrainedEncoder,
    encoder_shapes,
    is_encoder,
    load_encoder,
)
from rlhf_jax.models.sizes import GPT3_SIZES, gpt3_config
from rlhf_jax.models.trunk import Trunk, cast_matrices, stack_layers, unstack_layers

__all__ = [
    "Encoder",
    "EncoderConfig",
    "EncoderRewardModel",
    "GPT3_SIZES",
    "KVCache",
    "LanguageModel",
    "LoRA",
    "Pretrained",
    "PretrainedEncoder",
    "RopeScaling",
    "ScalarModel",
    "Trunk",
    "TrunkConfig",
    "abstract_params",
    "adapted",
    "adapter_of",
    "base_params",
    "cast_matrices",
    "encoder_shapes",
    "gpt3_config",
    "grow_cache",
    "init_adapter",
    "init_cache",
    "init_params",
    "is_encoder",
    "last_values",
    "leaf_paths",
    "load_encoder",
    "load_pretrained",
    "merged",
    "model_of",
    "pretrained_shapes",
    "save_pretrained",
    "shared_prefix_hidden",
    "shared_prefix_values",
    "stack_layers",
    "unstack_layers",
    "with_changes",
]
