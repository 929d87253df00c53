"""Records and text: real data in, exact batches out. numpy only, no jax."""

from rlhf_jax.data.records import Demonstration, Prompt, Ranking, Record, Text
from rlhf_jax.data.tokenizer_files import load_tokenizer
from rlhf_jax.data.tokenizers import (
    ByteTokenizer,
    SubwordTokenizer,
    Tokenizer,
    train_bpe,
)

__all__ = [
    "ByteTokenizer",
    "Demonstration",
    "Prompt",
    "Ranking",
    "Record",
    "SubwordTokenizer",
    "Text",
    "Tokenizer",
    "load_tokenizer",
    "train_bpe",
]
