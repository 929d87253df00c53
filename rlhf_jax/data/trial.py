"""What a stage would do with rows, found out without a batch: its account."""

from collections.abc import Iterable
from typing import Any, Literal

from rlhf_jax.data.account import Account, Booking
from rlhf_jax.data.apart import encode_rankings_apart
from rlhf_jax.data.conversations import ConversationForm
from rlhf_jax.data.encoding import (
    encode_demonstrations,
    encode_rankings,
    encode_texts,
)
from rlhf_jax.data.inputs import fitting
from rlhf_jax.data.pipelines import limits_in_words
from rlhf_jax.data.records import Demonstration, Prompt, Ranking
from rlhf_jax.data.sources import booked
from rlhf_jax.data.token_rows import Limits

__all__ = ["trial"]


def trial(
    records: Iterable[Any],
    kind: type,
    form: ConversationForm,
    *,
    max_prompt: int,
    max_response: int,
    train_turns: Literal["all", "last"] = "all",
    apart: bool = False,
) -> Account:
    """The account that a stage would give of these rows.

    Args:
      records: all of one kind, such as `read_rows` gives.
      kind: `Demonstration` (as SFT), `Ranking` (as the reward model and DPO), `Prompt`
        (as PPO and whatever else samples) or `Text` (as pretraining).
      form: of the model.
      max_prompt: tokens; no matter to texts.
      max_response: tokens; no matter to texts and prompts.
      train_turns: of demonstrations.
      apart: rankings for an encoder.

    Raises:
      InputError: as the stage would: a row of another kind, or one that the form does
        not hold.
    """
    if kind is Prompt:
        account = Account("prompts")
        fitting(booked(records, account), form, max_prompt, account)
        return account
    total = max_prompt + max_response if kind is Demonstration else None
    limits = Limits(max_prompt, max_response, total)
    tokenizer = form.tokenizer
    if kind is Demonstration:
        names = limits_in_words(limits, max_prompt, max_response)
        book = Booking("demonstrations", *names)
        rows = encode_demonstrations(
            book.read(records),
            tokenizer,
            limits,
            form=form,
            train_turns=train_turns,
            counts=book.counts,
        )
    elif kind is Ranking:
        words = (f"max_prompt {max_prompt}", f"max_response {max_response}")
        book = Booking("rankings", *words)
        encode, options = encode_rankings_apart, {}
        if not apart:
            encode = encode_rankings
            options["form"] = None if form.name == "plain" else form
        given = book.read(records)
        rows = encode(given, tokenizer, limits, counts=book.counts, **options)
    else:
        book = Booking("texts")
        rows = encode_texts(book.read(records), tokenizer)
    for _ in book.encoded(rows):
        pass
    return book.closed()
