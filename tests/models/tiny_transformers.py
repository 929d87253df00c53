"""Tiny random transformers models of every family, for golden files and live parity.

Needs torch; nothing imports this where torch is absent.
"""

import torch
import transformers

LLAMA = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 32,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
HEADED = LLAMA | {"head_dim": 8}
# name: model_type and its settings
CASES = {
    "gpt2": (
        "gpt2",
        {"vocab_size": 40, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 32}
        | {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0},
    ),
    "gpt_neox": (
        "gpt_neox",
        {k: v for k, v in LLAMA.items() if k != "num_key_value_heads"}
        | {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 0.5}},
    ),
    "gpt_neox_serial": (
        "gpt_neox",
        {k: v for k, v in LLAMA.items() if k != "num_key_value_heads"}
        | {"use_parallel_residual": False, "hidden_act": "gelu_new"}
        | {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 1.0}},
    ),
    "llama": ("llama", LLAMA),
    "llama3": (
        "llama",
        LLAMA
        | {"attention_bias": True, "mlp_bias": True}
        | {
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 100.0,
                "factor": 4.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 16,
            }
        },
    ),
    "llama_yarn": (
        "llama",
        HEADED
        | {
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 10.0,
                "factor": 4.0,
                "original_max_position_embeddings": 8,
                "beta_fast": 2.0,
            }
        },
    ),
    "llama_linear": (
        "llama",
        LLAMA
        | {
            "rope_parameters": {
                "rope_type": "linear",
                "rope_theta": 100.0,
                "factor": 4.0,
            }
        },
    ),
    "mistral": ("mistral", LLAMA | {"sliding_window": 5}),
    "qwen2": (
        "qwen2",
        LLAMA
        | {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1},
    ),
    "qwen3": ("qwen3", HEADED | {"tie_word_embeddings": True}),
    "gemma": ("gemma", HEADED | {"num_key_value_heads": 1}),
    "gemma2": (
        "gemma2",
        HEADED
        | {"sliding_window": 4, "query_pre_attn_scalar": 12}
        | {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0},
    ),
    "gemma3": (
        "gemma3_text",
        HEADED
        | {"num_hidden_layers": 3, "sliding_window": 4, "query_pre_attn_scalar": 12}
        | {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}
        | {
            "rope_parameters": {
                "sliding_attention": {"rope_type": "default", "rope_theta": 10.0},
                "full_attention": {
                    "rope_type": "linear",
                    "factor": 2.0,
                    "rope_theta": 1e3,
                },
            }
        },
    ),
}


def model(case: str, kind: str, seed: int = 0) -> torch.nn.Module:
    """A model with weights large enough that every part matters.

    Args:
      case: a key of `CASES`.
      kind: "lm" or "scalar".
      seed: of the weights.
    """
    model_type, settings = CASES[case]
    labels = {"num_labels": 1} if kind == "scalar" else {}
    config = transformers.AutoConfig.for_model(model_type, **settings, **labels)
    config._attn_implementation = "eager"
    made = {
        "lm": transformers.AutoModelForCausalLM,
        "scalar": transformers.AutoModelForSequenceClassification,
    }[kind].from_config(config)
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            noise = torch.randn_like(parameter)
            matrix = parameter.ndim > 1
            parameter.copy_(0.35 * noise if matrix else parameter + 0.3 * noise)
            del name
    return made.eval()


def tokens(rows: int = 2, length: int = 20, seed: int = 0) -> torch.Tensor:
    """Random ids, none of them the pad token."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(2, 40, (rows, length), generator=generator)


def logits(made: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    """Logits of a language model."""
    with torch.no_grad():
        return made(input_ids=ids).logits.float()


def scores(
    made: torch.nn.Module, ids: torch.Tensor, lengths: list[int]
) -> torch.Tensor:
    """Scores of a reward model for rows padded on the right."""
    mask = torch.arange(ids.shape[1])[None] < torch.tensor(lengths)[:, None]
    ids = torch.where(mask, ids, 0)
    with torch.no_grad():
        return made(input_ids=ids, attention_mask=mask.long()).logits[:, 0].float()
