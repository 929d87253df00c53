"""Records -> stream of batches: one function per kind of training data.

Each reads its records once, encodes them into flat arrays (in memory, or under
`cache` on disk, when the corpus is larger than memory) and returns a `Stream`.
"""

import functools
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from rlhf_jax.data.account import Booking
from rlhf_jax.data.apart import encode_rankings_apart
from rlhf_jax.data.batches import PromptRows, RankingRows
from rlhf_jax.data.conversations import ConversationForm
from rlhf_jax.data.encoding import (
    Limits,
    encode_demonstrations,
    encode_prompts,
    encode_rankings,
    encode_texts,
)
from rlhf_jax.data.packed_rankings import PackedRankingRows
from rlhf_jax.data.packing import bucket_of, pack
from rlhf_jax.data.ragged import Ragged
from rlhf_jax.data.records import Demonstration, Prompt, Ranking, Text
from rlhf_jax.data.sequences import PackedRows, SequenceRows, WindowRows
from rlhf_jax.data.shape_buckets import ShapeBuckets
from rlhf_jax.data.streams import (
    BucketStream,
    MixedStream,
    RowStream,
    Stream,
    check_shard,
    mixed_sizes,
)
from rlhf_jax.data.tokenizers import Tokenizer

__all__ = [
    "demonstration_stream",
    "mixed_stream",
    "prompt_stream",
    "ranking_stream",
    "text_stream",
]

Shard = tuple[int, int]
Folder = str | pathlib.Path | None


def demonstration_stream(
    records: Iterable[Demonstration],
    tokenizer: Tokenizer,
    *,
    batch_size: int,
    context_length: int,
    max_prompt: int | None = None,
    max_response: int | None = None,
    layout: Literal["packed", "padded", "buckets"] = "packed",
    buckets: Sequence[int] | None = None,
    train_on_prompt: bool = False,
    form: ConversationForm | None = None,
    train_turns: Literal["all", "last"] = "all",
    seed: int = 0,
    shard: Shard = (0, 1),
    cache: Folder = None,
) -> Stream:
    """Batches for supervised fine-tuning.

    Args:
      records: demonstrations, read once.
      tokenizer: gives the ids.
      batch_size: B, rows of a batch over all hosts.
      context_length: T; prompt and response together, in tokens.
      max_prompt: longer prompts are dropped and counted; the context when None.
      max_response: longer responses are cut and counted; the context when None.
      layout: "packed" puts several demonstrations in a row (adds "segments" and
        "positions"); "padded" one per row, all T wide; "buckets" one per row, each
        batch as wide as its bucket.
      buckets: rising lengths for that layout; T/8, T/4, T/2, T when None.
      train_on_prompt: train on the prompt's tokens too.
      form: in which the model reads conversations; None: prompts as they stand.
      train_turns: which turns of the assistant a form trains.
      seed: decides the order.
      shard: (host, hosts).
      cache: a folder for the ids; in memory when None.

    Returns:
      A stream of {"tokens", "valid", "mask"} [B, T] and "row" [B]; the mask is of
      numbers where turns have weights other than 0 and 1.
    """
    limits = Limits(
        max_prompt or context_length, max_response or context_length, context_length
    )
    book = Booking("demonstrations", *limits_in_words(limits, max_prompt, max_response))
    encoded = encode_demonstrations(
        book.read(records),
        tokenizer,
        limits,
        train_on_prompt=train_on_prompt,
        form=form,
        train_turns=train_turns,
        counts=book.counts,
    )
    path = _file(cache, "demonstrations")
    rows = SequenceRows.collect(
        book.encoded(encoded), context_length, tokenizer.pad_token, path
    )
    settings = {"seed": seed, "shard": shard, "account": book.closed()}
    name = "demonstrations"
    if layout == "buckets":
        edges = tuple(buckets or [context_length // d for d in (8, 4, 2, 1)])
        assigned = bucket_of(rows.tokens.lengths, edges)
        return BucketStream(rows, assigned, edges, batch_size, name=name, **settings)
    if layout == "packed":
        bins = Ragged.from_rows(pack(rows.tokens.lengths, context_length))
        rows = PackedRows(rows, bins)
    return RowStream(rows, batch_size, name=name, **settings)


def ranking_stream(
    records: Iterable[Ranking],
    tokenizer: Tokenizer,
    *,
    batch_size: int,
    max_prompt: int = 1024,
    max_response: int = 1024,
    max_k: int | None = None,
    k_buckets: Sequence[int] = (),
    packed: Sequence[int] | None = None,
    apart: bool = False,
    form: ConversationForm | None = None,
    seed: int = 0,
    shard: Shard = (0, 1),
    cache: Folder = None,
) -> Stream:
    """Batches for the reward model: B prompts with their K responses, kept together.

    Args:
      records: rankings, read once.
      tokenizer: gives the ids.
      batch_size: B, prompts of a batch over all hosts.
      max_prompt: P; longer prompts are dropped and counted.
      max_response: R; longer responses are cut and counted.
      max_k: K; the largest that occurs when None.
      k_buckets: rising numbers of responses below K; a batch then holds rankings of
        one bucket, and its K is the bucket's. Empty: K is the same in every batch.
      packed: a ranking is one row, its prompt and then its responses; rising lengths
        T for the batches of rankings that fit them, and as wide as the data for the
        others. None: every response has its own row.
      apart: prompt and response are texts of their own, each with begin and end token,
        for an encoder; see `data.apart`. Neither with `packed` nor in a form.
      form, seed, shard, cache: as in `demonstration_stream`.

    Returns:
      A stream of "prompts", "prompt_valid" [B, P]; "responses", "response_valid"
      [B, K, R]; "ranks" [B, K]; "present" [B, K], True for a real response; "mask"
      [B], True where at least one pair is not tied; "row" [B]. With `packed`, the
      first four are "tokens", "valid" [B, T]; "common" [B, T], True where the prompt
      is; "segments" [B, T], which response a token is of; "ends" [B, K], the slot of
      a response's last token.
    """
    book = Booking(
        "rankings", f"max_prompt {max_prompt}", f"max_response {max_response}"
    )
    limits = Limits(max_prompt, max_response)
    encode = functools.partial(encode_rankings, form=form)
    if apart:
        encode = encode_rankings_apart
    encoded = encode(book.read(records), tokenizer, limits, counts=book.counts)
    shape = (max_prompt, max_k, max_response)
    path = _file(cache, "rankings")
    rows = RankingRows.collect(book.encoded(encoded), shape, tokenizer.pad_token, path)
    settings = {"seed": seed, "name": "rankings", "shard": shard}
    settings["account"] = book.closed()
    if packed is not None:
        lengths = PackedRankingRows(rows, 0).lengths
        edges = _edges(packed, int(lengths.max(initial=1)))
        together = PackedRankingRows(rows, edges[-1])
        return _length_buckets(together, edges, lengths, batch_size, settings)
    if not k_buckets:
        return RowStream(rows, batch_size, **settings)
    prompt, widest, response = rows.shape
    ceilings = (*(k for k in k_buckets if k < widest), widest)
    shapes = [(prompt, k, response) for k in ceilings]
    assigned = bucket_of(rows.counts, ceilings)
    return ShapeBuckets(rows, shapes, assigned, batch_size, **settings)


def prompt_stream(
    records: Iterable[Prompt],
    tokenizer: Tokenizer,
    *,
    batch_size: int,
    max_prompt: int = 1024,
    form: ConversationForm | None = None,
    seed: int = 0,
    shard: Shard = (0, 1),
    last: Literal["pad", "drop"] = "pad",
    buckets: Sequence[int] = (),
    cache: Folder = None,
) -> Stream:
    """Batches for rollouts: prompts padded on the left.

    Args: as in `ranking_stream`; `last` as in `RowStream`; `buckets` are rising
    lengths: a batch then holds prompts of one bucket, and its P is the bucket's. Empty:
    P is `max_prompt` in every batch.

    Returns:
      A stream of "prompts", "valid" [B, P] and "row" [B].
    """
    book = Booking("prompts", f"max_prompt {max_prompt}")
    encoded = encode_prompts(
        book.read(records), tokenizer, Limits(max_prompt), form=form, counts=book.counts
    )
    path = _file(cache, "prompts")
    rows = PromptRows.collect(
        book.encoded(encoded), max_prompt, tokenizer.pad_token, path
    )
    settings = {
        "seed": seed,
        "name": "prompts",
        "last": last,
        "shard": shard,
        "account": book.closed(len(rows) % batch_size if last == "drop" else 0),
    }
    if not buckets:
        return RowStream(rows, batch_size, **settings)
    edges = _edges(buckets, max_prompt)
    return _length_buckets(rows, edges, rows.tokens.lengths, batch_size, settings)


def text_stream(
    records: Iterable[Text],
    tokenizer: Tokenizer,
    *,
    batch_size: int,
    context_length: int,
    seed: int = 0,
    shard: Shard = (0, 1),
    cache: Folder = None,
) -> Stream:
    """Batches for pretraining and for the pretraining mix of PPO-ptx.

    Args: as in `demonstration_stream`.

    Returns:
      A stream of {"tokens", "valid", "mask"} [B, T] and "row" [B]; the windows are
      full but for the last one of the corpus.
    """
    path = _file(cache, "texts")
    book = Booking("texts")
    encoded = book.encoded(encode_texts(book.read(records), tokenizer))
    rows = WindowRows.collect(encoded, context_length, tokenizer.pad_token, path)
    settings = {"seed": seed, "name": "texts", "shard": shard}
    return RowStream(rows, batch_size, account=book.closed(), **settings)


def mixed_stream(
    makers: Sequence[Callable[[int], Stream]],
    weights: Sequence[float],
    *,
    batch_size: int,
    shard: Shard = (0, 1),
) -> MixedStream:
    """Batches in which each stream has its share, such as 10 % pretraining text.

    Args:
      makers: each makes a stream for a given batch size, with shard (0, 1); all with
        the same keys, so demonstrations must be "padded" to mix with text.
      weights: the share of each, in rows.
      batch_size: B, over all hosts.
      shard: (host, hosts).
    """
    check_shard(batch_size, shard)
    sizes = mixed_sizes(batch_size, weights)
    parts = [make(size) for make, size in zip(makers, sizes, strict=True)]
    return MixedStream(parts, shard)


def _edges(lengths: Sequence[int], widest: int) -> list[int]:
    """The lengths below the widest, and that."""
    return [*(length for length in lengths if length < widest), widest]


def _length_buckets(rows, edges, lengths, batch_size, settings) -> ShapeBuckets:
    shapes = [(edge,) for edge in edges]
    return ShapeBuckets(rows, shapes, bucket_of(lengths, edges), batch_size, **settings)


def limits_in_words(
    limits: Limits, max_prompt: int | None, max_response: int | None
) -> tuple[str, str]:
    """The limits by which a prompt is dropped and a response cut, in words."""
    context = f"the context of {limits.total}"
    prompt = f"max_prompt {max_prompt}" if limits.prompt < limits.total else context
    if max_response is None:
        return prompt, context
    response = f"max_response {max_response}"
    if limits.prompt + limits.response > limits.total:
        response += f" or {context}"
    return prompt, response


def _file(cache: Folder, name: str) -> pathlib.Path | None:
    if cache is None:
        return None
    folder = pathlib.Path(cache)
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.int32"
