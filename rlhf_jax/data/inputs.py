"""Files and objects -> records -> batches: the data side of every stage's wiring."""

import dataclasses
import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from rlhf_jax import data
from rlhf_jax.data import Demonstration, Prompt, Stream, Text
from rlhf_jax.data.account import Account
from rlhf_jax.data.conversations import ConversationForm, PlainForm
from rlhf_jax.data.encoding import said_before
from rlhf_jax.data.sources import (
    as_records,
    booked,
    prompt_of,
    read_prompts,
    read_rows,
    read_told,
)
from rlhf_jax.errors import InputError

logger = logging.getLogger("rlhf_jax.data")

__all__ = [
    "as_records",
    "booked",
    "encode_prompts",
    "fitting",
    "mixed_demonstrations",
    "numeric",
    "one_epoch",
    "padded_prompts",
    "prompt_rows",
    "prompt_of",
    "read_prompts",
    "read_rows",
    "read_told",
]


def fitting(
    prompts: Iterable[Prompt],
    form: ConversationForm,
    max_prompt: int,
    account: Account | None = None,
) -> list[Prompt]:
    """The prompts of at most `max_prompt` tokens, the begin token among them.

    How many are left out is told in the log, and booked in `account`.
    """
    prompts = list(prompts)
    rows = prompt_rows([said_before(prompt) for prompt in prompts], form)
    kept = [
        prompt
        for prompt, row in zip(prompts, rows, strict=True)
        if len(row) <= max_prompt
    ]
    if account is not None:
        account.drop(
            f"as too long for max_prompt {max_prompt}", len(prompts) - len(kept)
        )
    if left := len(prompts) - len(kept):
        logger.warning(
            "prompts: %d of %d have more than max_prompt = %d tokens and are left out",
            left,
            len(prompts),
            max_prompt,
        )
    return kept


def one_epoch(stream: Stream) -> Iterator[dict]:
    """The batches that hold each row once."""
    return (stream.batch(step) for step in range(stream.steps_per_epoch))


def numeric(batch: dict) -> dict:
    """A batch without the names of its rows, for a jitted function."""
    return {key: value for key, value in batch.items() if key not in ("row", "stream")}


def mixed_demonstrations(
    demonstrations: Iterable[Demonstration],
    texts: Iterable[Text],
    tokenizer: Any,
    *,
    max_prompt: int,
    max_response: int,
    batch_size: int,
    seed: int,
    train_on_prompt: bool = False,
    layout: str = "padded",
    mix_fraction: float = 0.0,
    form: ConversationForm | None = None,
    train_turns: str = "all",
) -> Stream:
    """Demonstrations, with a share of pretraining windows where asked.

    Args:
      demonstrations: records.
      texts: records; looked at where `mix_fraction` > 0.
      tokenizer: of the model.
      max_prompt: tokens.
      max_response: tokens; a window of text is as long as both.
      batch_size: rows.
      seed: of the order.
      train_on_prompt: train the prompt's tokens too.
      layout: "padded", "packed" or "buckets"; see `data.demonstration_stream`.
      mix_fraction: share of the rows that are windows of text.
      form: in which the model reads conversations; None: the prompt as it stands.
      train_turns: "all" or "last" of the assistant's turns.
    """
    window = max_prompt + max_response

    def answered(size: int) -> Stream:
        return data.demonstration_stream(
            demonstrations,
            tokenizer,
            batch_size=size,
            context_length=window,
            max_prompt=max_prompt,
            max_response=max_response,
            layout=layout,
            train_on_prompt=train_on_prompt,
            form=form,
            train_turns=train_turns,
            seed=seed,
        )

    if not mix_fraction:
        return answered(batch_size)
    if layout == "buckets":
        raise InputError("layout: demonstrations in buckets cannot be mixed with text")

    def windows(size: int) -> Stream:
        stream = data.text_stream(
            texts, tokenizer, batch_size=size, context_length=window, seed=seed
        )
        return PackedWindows(stream) if layout == "packed" else stream

    return data.mixed_stream(
        [answered, windows],
        [1 - mix_fraction, mix_fraction],
        batch_size=batch_size,
    )


@dataclasses.dataclass(frozen=True)
class PackedWindows:
    """Windows of text in the form of packed rows: one segment each, from position 0."""

    stream: Stream

    def __len__(self) -> int:
        return len(self.stream)

    @property
    def steps_per_epoch(self) -> int:
        """Batches that hold each window once."""
        return self.stream.steps_per_epoch

    @property
    def accounts(self) -> tuple[Account, ...]:
        """What became of the documents."""
        return self.stream.accounts

    def batch(self, step: int) -> dict[str, np.ndarray]:
        """The batch of a step, with "segments" and "positions" [B, T]."""
        batch = self.stream.batch(step)
        valid = batch["valid"]
        places = np.arange(valid.shape[1], dtype=np.int32)
        return batch | {
            "segments": valid.astype(np.int32),
            "positions": np.where(valid, places, 0).astype(np.int32),
        }


def prompt_rows(prompts: Sequence[Any], form: ConversationForm) -> list[list[int]]:
    """The ids of each prompt, a text or messages, in a model's form.

    An empty one is read as the end of an earlier text, as GPT-2 does.
    """
    tokenizer = form.tokenizer
    if form.name != "template" and all(isinstance(said, str) for said in prompts):
        begin = [] if tokenizer.begin_token is None else [tokenizer.begin_token]
        rows = [begin + row for row in tokenizer.encode_batch(list(prompts))]
    else:
        rows = [form.prompt_ids(said) for said in prompts]
    return [row or [tokenizer.end_token] for row in rows]


def encode_prompts(
    prompts: Sequence[Any],
    tokenizer: Any,
    max_prompt: int,
    *,
    form: ConversationForm | None = None,
    account: Account | None = None,
) -> dict[str, np.ndarray]:
    """One batch of given prompts in their order: `prompts`, `valid`, `row`.

    A prompt longer than `max_prompt` keeps its row but loses its beginning.

    Args:
      prompts: texts, or messages where the form holds conversations.
      tokenizer: of the model.
      max_prompt: tokens, P.
      form: of the model; None: plain.
      account: books what is cut.
    """
    rows = prompt_rows(prompts, form or PlainForm(tokenizer))
    return padded_prompts(rows, tokenizer.pad_token, max_prompt, account)


def padded_prompts(
    rows: Sequence[Sequence[int]],
    pad: int,
    max_prompt: int,
    account: Account | None = None,
) -> dict[str, np.ndarray]:
    """Rows of ids as `encode_prompts` gives them: padded on the left."""
    tokens = np.full((len(rows), max_prompt), pad, np.int32)
    valid = np.zeros((len(rows), max_prompt), bool)
    for i, row in enumerate(rows):
        kept = row[-max_prompt:]
        if account is not None and len(kept) < len(row):
            account.cut[f"at the beginning to max_prompt {max_prompt}"] += 1
        if kept:
            tokens[i, -len(kept) :] = kept
            valid[i, -len(kept) :] = True
    return {"prompts": tokens, "valid": valid, "row": np.arange(len(rows))}
