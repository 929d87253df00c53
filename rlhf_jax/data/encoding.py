"""Record -> token ids: what the model sees, and from where on it is trained.

Prompt and response are encoded apart and joined as ids, so a prompt has the same ids
in every stage and a sampled response is never re-tokenised. A response ends with the
end token, which is trained like any other; a response that is cut has no end token,
because nobody ended it there.

The functions take many records and encode them in blocks, since tokenizers are fast
only on blocks; they yield in order and count what they drop or cut.
"""

import contextlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Literal, TypeVar

from rlhf_jax.data.conversations import ConversationForm
from rlhf_jax.data.records import (
    Demonstration,
    Message,
    Prompt,
    Ranking,
    Record,
    Text,
)
from rlhf_jax.data.token_rows import (
    Limits,
    PromptTokens,
    RankedTokens,
    SequenceTokens,
)
from rlhf_jax.data.tokenizers import Tokenizer
from rlhf_jax.errors import InputError

__all__ = [
    "Limits",
    "PromptTokens",
    "RankedTokens",
    "SequenceTokens",
    "encode_demonstrations",
    "encode_prompts",
    "encode_rankings",
    "encode_texts",
]

BLOCK = 1024  # records encoded at once; memory is bounded by it
T = TypeVar("T")


def encode_demonstrations(
    records: Iterable[Demonstration],
    tokenizer: Tokenizer,
    limits: Limits = Limits(),  # noqa: B008 (frozen)
    *,
    train_on_prompt: bool = False,
    form: ConversationForm | None = None,
    train_turns: Literal["all", "last"] = "all",
    counts: Counter | None = None,
) -> Iterator[SequenceTokens]:
    """Demonstrations as ids, trained on the response and its end token.

    >>> from rlhf_jax.data import ByteTokenizer, Demonstration
    >>> row = Demonstration(id="1", prompt="2+2=", response="4")
    >>> next(encode_demonstrations([row], ByteTokenizer()))
    SequenceTokens(index=0, tokens=[50, 43, 50, 61, 52, 256], start=4,
                   truncated=False, weights=None)

    Args:
      records: the rows.
      tokenizer: gives the ids.
      limits: rows with a longer prompt are dropped, longer responses are cut.
      train_on_prompt: train on the prompt's tokens too (all but the first).
      form: in which the model reads conversations; None: the prompt as it stands.
      train_turns: which turns of the assistant a form trains. Where there are several,
        the prompt is what stands before the first, and the limits hold together.
      counts: gains "prompt_too_long", "response_truncated" and "untrained", which are
        rows of weight 0.

    Raises:
      InputError: the form has none for a row; the row is named.
    """
    counts = Counter() if counts is None else counts
    if form is not None:
        spoken = (
            (index, *_formed(row, form, train_turns))
            for index, row in enumerate(records)
        )
        yield from _limited(spoken, limits, train_on_prompt, counts)
        return
    for index, _row, prompt, (response,) in _encoded(
        records, tokenizer, lambda row: [row.response]
    ):
        room = _room(prompt, limits)
        if room < 1:
            counts["prompt_too_long"] += 1
            continue
        response, truncated = _ended(response, room, tokenizer)
        counts["response_truncated"] += truncated
        start = 1 if train_on_prompt else max(1, len(prompt))
        yield SequenceTokens(index, prompt + response, start, truncated)


def _formed(row: Demonstration, form: ConversationForm, train_turns: str):
    """Ids and weights of a row in a form."""
    answer = Message(role="assistant", content=row.response)
    messages = row.messages or [Message(role="user", content=row.prompt), answer]
    with _named(row):
        return form.training_ids(messages, train_turns)


def _limited(spoken, limits: Limits, train_on_prompt: bool, counts: Counter):
    """Rows in a form within the limits, cut behind the last token that is trained."""
    for index, ids, weights in spoken:
        trained = [i for i, weight in enumerate(weights) if weight > 0 and i > 0]
        if not trained:
            counts["untrained"] += 1
            continue
        start, end = trained[0], trained[-1] + 1
        room = _room(ids[:start], limits)
        if room < 1:
            counts["prompt_too_long"] += 1
            continue
        if len(trained) < end - start and limits.total is not None:  # several turns
            room = limits.total - start
        cut = min(end, start + room)
        counts["response_truncated"] += cut < end
        if train_on_prompt:
            start, weights = 1, [0.0, *(weight or 1.0 for weight in weights[1:])]
        yield SequenceTokens(index, ids[:cut], start, cut < end, weights[:cut])


def encode_rankings(
    records: Iterable[Ranking],
    tokenizer: Tokenizer,
    limits: Limits = Limits(),  # noqa: B008 (frozen)
    *,
    form: ConversationForm | None = None,
    counts: Counter | None = None,
) -> Iterator[RankedTokens]:
    """Rankings as ids: one prompt, K responses, so that the prompt is computed once.

    >>> from rlhf_jax.data import ByteTokenizer, Ranking
    >>> row = Ranking(id="1", prompt="Hi", responses=["a", ""], ranks=[1, 2])
    >>> next(encode_rankings([row], ByteTokenizer())).responses
    [[97, 256], [256]]

    Args and counts: as `encode_demonstrations`; in a form, a response is closed as the
    form closes a turn.
    """
    counts = Counter() if counts is None else counts
    if form is None:
        found = (
            (index, row, prompt, [[*ids, tokenizer.end_token] for ids in responses])
            for index, row, prompt, responses in _encoded(
                records, tokenizer, lambda row: row.responses
            )
        )
    else:
        found = ((index, row, *_scored(row, form)) for index, row in enumerate(records))
    for index, row, prompt, responses in found:
        room = _room(prompt, limits)
        if room < 1:
            counts["prompt_too_long"] += 1
            continue
        cut = [len(ids) > room for ids in responses]
        counts["response_truncated"] += sum(cut)
        counts["all_tied"] += len(set(row.ranks)) == 1
        kept = [ids[:room] for ids in responses]
        yield RankedTokens(index, prompt, kept, list(row.ranks), cut)


def _scored(row: Ranking, form: ConversationForm):
    """(prompt ids, ids of each response) of a row in a form."""
    said = row.messages or row.prompt
    with _named(row):
        responses = [form.response_ids(said, response) for response in row.responses]
        return form.prompt_ids(said), responses


def encode_prompts(
    records: Iterable[Prompt | Demonstration | Ranking],
    tokenizer: Tokenizer,
    limits: Limits = Limits(),  # noqa: B008 (frozen)
    *,
    form: ConversationForm | None = None,
    counts: Counter | None = None,
) -> Iterator[PromptTokens]:
    """Prompts as ids, for rollouts; the begin token first where the model has one.

    >>> from rlhf_jax.data import ByteTokenizer, Prompt
    >>> next(encode_prompts([Prompt(id="1", prompt="Hi")], ByteTokenizer()))
    PromptTokens(index=0, tokens=[72, 105])
    """
    counts = Counter() if counts is None else counts
    if form is None:
        found = (
            (index, prompt)
            for index, _, prompt, _ in _encoded(records, tokenizer, lambda row: [])
        )
    else:
        found = ((index, _asked(row, form)) for index, row in enumerate(records))
    for index, prompt in found:
        if len(prompt) > limits.prompt:
            counts["prompt_too_long"] += 1
            continue
        yield PromptTokens(index, prompt)


def _asked(row: Prompt | Demonstration | Ranking, form: ConversationForm) -> list[int]:
    with _named(row):
        return form.prompt_ids(said_before(row))


def said_before(row: Prompt | Demonstration | Ranking) -> str | list[Message]:
    """What a form reads before the response: the turns, or the prompt."""
    if row.messages is None:
        return row.prompt
    last = isinstance(row, Demonstration)  # whose last turn is the response
    return row.messages[:-1] if last else row.messages


@contextlib.contextmanager
def _named(row: Record) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise InputError(f"record {row.id!r}: {error}") from None


def encode_texts(
    records: Iterable[Text], tokenizer: Tokenizer
) -> Iterator[SequenceTokens]:
    """Documents as ids, each closed by the end token, all of it trained.

    Where a model ends its texts with the token that begins the next one (generation
    stops at the begin token), that token alone stands between two documents.

    >>> from rlhf_jax.data import ByteTokenizer, Text
    >>> next(encode_texts([Text(id="1", text="Hi")], ByteTokenizer()))
    SequenceTokens(index=0, tokens=[72, 105, 256], start=1, truncated=False,
                   weights=None)
    """
    begin, index = _begin(tokenizer), itertools.count()
    delimited = bool(begin) and begin[0] in tokenizer.end_tokens
    end = [] if delimited else [tokenizer.end_token]
    for block in blocks(records, BLOCK):
        for ids in tokenizer.encode_batch([row.text for row in block]):
            yield SequenceTokens(next(index), [*begin, *ids, *end], 1)


def blocks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` items, the last one shorter.

    >>> list(blocks("abcde", 2))
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    iterator = iter(items)
    while block := list(islice(iterator, size)):
        yield block


def _encoded(
    records: Iterable[Record],
    tokenizer: Tokenizer,
    answers: Callable[[Record], list[str]],
) -> Iterator[tuple[int, Record, list[int], list[list[int]]]]:
    """(index, row, prompt ids, ids of each answer), encoded a block at a time."""
    index = itertools.count()
    begin = _begin(tokenizer)
    for block in blocks(records, BLOCK):
        plain = tokenizer.encode_batch([row.prompt for row in block])
        prompts = [begin + ids for ids in plain] if begin else plain
        texts = [text for row in block for text in answers(row)]
        ids = iter(tokenizer.encode_batch(texts) if texts else [])
        for row, prompt in zip(block, prompts, strict=True):
            yield next(index), row, prompt, list(islice(ids, len(answers(row))))


def _begin(tokenizer: Tokenizer) -> list[int]:
    return [] if tokenizer.begin_token is None else [tokenizer.begin_token]


def _room(prompt: list[int], limits: Limits) -> int:
    """Tokens left for the response; 0 when the prompt must be dropped."""
    if len(prompt) > limits.prompt:
        return 0
    if limits.total is None:
        return limits.response
    return max(0, min(limits.response, limits.total - len(prompt)))


def _ended(
    response: list[int], room: int, tokenizer: Tokenizer
) -> tuple[list[int], bool]:
    """The response with its end token if it fits, else cut to `room` tokens."""
    if len(response) + 1 <= room:
        return [*response, tokenizer.end_token], False
    return response[:room], True
