"""Prompt and response as two texts, each by itself: what an encoder of both reads.

A text is begin token, if there is one, ⊕ text ⊕ end token (BERT's [CLS] and [SEP]);
what is too long loses its end. Training and scoring take the ids from here.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from rlhf_jax.data.encoding import BLOCK, Limits, RankedTokens, blocks
from rlhf_jax.data.records import Ranking
from rlhf_jax.data.tokenizers import Tokenizer

__all__ = ["enclosed", "encode_rankings_apart"]


def enclosed(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """The ids of each text between begin and end token.

    >>> from rlhf_jax.data import ByteTokenizer
    >>> enclosed(ByteTokenizer(), ["Hi", ""])
    [[72, 105, 256], [256]]
    """
    begin = [] if tokenizer.begin_token is None else [tokenizer.begin_token]
    rows = tokenizer.encode_batch(list(texts))
    return [[*begin, *row, tokenizer.end_token] for row in rows]


def encode_rankings_apart(
    records: Iterable[Ranking],
    tokenizer: Tokenizer,
    limits: Limits,
    *,
    counts: Counter,
) -> Iterator[RankedTokens]:
    """Rankings as ids of texts that are read apart.

    Args:
      records: the rows.
      tokenizer: of the encoder.
      limits: tokens, begin and end among them; rows with a longer prompt are dropped,
        longer responses are cut.
      counts: gains "prompt_too_long", "response_truncated" and "all_tied".
    """
    index = -1
    for block in blocks(records, BLOCK):
        prompts = enclosed(tokenizer, [row.prompt for row in block])
        texts = [text for row in block for text in row.responses]
        ids = iter(enclosed(tokenizer, texts))
        for row, prompt in zip(block, prompts, strict=True):
            index, responses = index + 1, [next(ids) for _ in row.responses]
            if len(prompt) > limits.prompt:
                counts["prompt_too_long"] += 1
                continue
            cut = [len(response) > limits.response for response in responses]
            counts["response_truncated"] += sum(cut)
            counts["all_tied"] += len(set(row.ranks)) == 1
            kept = [response[: limits.response] for response in responses]
            yield RankedTokens(index, prompt, kept, list(row.ranks), cut)
