"""Records and text: real data in, exact batches out. numpy only, no jax."""

from rlhf_jax.data.pipelines import (
    demonstration_stream,
    mixed_stream,
    prompt_stream,
    ranking_stream,
    text_stream,
)
from rlhf_jax.data.records import Demonstration, Prompt, Ranking, Record, Text
from rlhf_jax.data.streams import Stream, epoch_order
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
    "Stream",
    "SubwordTokenizer",
    "Text",
    "Tokenizer",
    "demonstration_stream",
    "epoch_order",
    "load_tokenizer",
    "mixed_stream",
    "prompt_stream",
    "ranking_stream",
    "text_stream",
    "train_bpe",
]
