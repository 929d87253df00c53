"""The eight sizes of GPT-3, by name (Brown et al. 2020, table 2.1)."""

import difflib

from rlhf_jax.errors import InputError
from rlhf_jax.models.config import TrunkConfig

# name: layers, width, heads, head width
GPT3_SIZES = {
    "125M": (12, 768, 12, 64),
    "350M": (24, 1024, 16, 64),
    "760M": (24, 1536, 16, 96),
    "1.3B": (24, 2048, 16, 128),
    "2.7B": (32, 2560, 32, 80),
    "6.7B": (32, 4096, 32, 128),
    "13B": (40, 5120, 40, 128),
    "175B": (96, 12288, 96, 128),
}


def gpt3_config(name: str, **changes) -> TrunkConfig:
    """The config of a GPT-3 size; InstructGPT's are 1.3B, 6.7B ("6B") and 175B.

    Source: Brown et al. 2020, table 2.1. Context 2048, GPT-2's vocabulary of 50,257.
    Differs: the table prints 24 heads of 128 for 1.3B and width 5140 for 13B; heads
    times head width is then not the width, nor do the parameters add up to the name.
    16 heads and 5120 do. Every layer attends densely; GPT-3 alternates dense and
    banded sparse layers whose bands are not published (`windows` can express them).

    >>> gpt3_config("175B").num_layers
    96

    Args:
      name: "125M", "350M", "760M", "1.3B", "2.7B", "6.7B", "13B" or "175B".
      **changes: any other field of `TrunkConfig`.

    Raises:
      InputError: no such size.
    """
    if name not in GPT3_SIZES:
        close = difflib.get_close_matches(name, GPT3_SIZES, 1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise InputError(f"GPT-3 size {name!r}: one of {', '.join(GPT3_SIZES)}{hint}")
    num_layers, embed_dim, num_heads, head_dim = GPT3_SIZES[name]
    fields = {
        "vocab_size": 50_257,
        "context_length": 2048,
        "embed_dim": embed_dim,
        "num_layers": num_layers,
        "num_heads": num_heads,
        "head_dim": head_dim,
        "mlp_dim": 4 * embed_dim,
    }
    return TrunkConfig(**(fields | changes))
