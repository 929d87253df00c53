"""Files and objects -> records -> batches: the data side of every stage's wiring."""

import dataclasses
import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from rlhf_jax import data
from rlhf_jax.data import Demonstration, Intake, Prompt, Ranking, Record, Stream, Text
from rlhf_jax.data.account import Account
from rlhf_jax.data.readers import format_of, read
from rlhf_jax.errors import InputError

logger = logging.getLogger("rlhf_jax.data")

__all__ = [
    "as_records",
    "encode_prompts",
    "fitting",
    "mixed_demonstrations",
    "numeric",
    "one_epoch",
    "prompt_of",
    "read_prompts",
    "read_rows",
]


# what a file of such records is called
HELD = {
    Demonstration: "demonstrations (prompt and response)",
    Prompt: "prompts",
    Ranking: "preferences (ranked responses)",
    Text: "running text",
}
# formats of the same file that give other records
SIBLINGS = {
    name: {Demonstration: f"{name}-demonstrations", Prompt: f"{name}-prompts"}
    for name in ("oasst", "oasst-flat")
}


@dataclasses.dataclass
class FileRecords:
    """The records of files, read anew by each iteration; see `read_rows`.

    Attributes:
      intake: what became of the rows; of the last iteration where none was given.
    """

    files: Sequence[str]
    kind: type
    max_k: int | None = None
    given: Intake | None = None
    intake: Intake | None = None

    def __iter__(self) -> Iterator[Any]:
        self.intake = intake = Intake() if self.given is None else self.given
        for file in self.files:
            for record in read(file, intake=intake, max_k=self.max_k):
                if self.kind is Prompt and isinstance(record, Demonstration | Ranking):
                    yield prompt_of(record)
                elif isinstance(record, self.kind):
                    yield record
                else:
                    raise InputError(_unwanted(file, record, self.kind))


def read_rows(
    files: Sequence[str],
    kind: type,
    *,
    intake: Intake | None = None,
    max_k: int | None = None,
) -> FileRecords:
    """The records of several files, one after the other.

    They are read when they are asked for; a stream of them then has in its account
    what reading left out.

    Args:
      files: paths or `hf:` names in any format of `data.readers`; a format that the
        file's first row does not tell, or a column map, stands behind a #, as in
        `trees.jsonl.gz#oasst-demonstrations`.
      kind: `Demonstration`, `Ranking`, `Prompt` or `Text`; a `Prompt` is also taken
        from a demonstration or a ranking, without its responses.
      intake: what becomes of bad rows, and the counts; refuses them when None.
      max_k: rankings of more responses are refused; no limit when None.

    Raises:
      InputError: bad rows, with file and line, or rows of another kind.
    """

    return FileRecords(files, kind, max_k, intake)


def _unwanted(file: str, record: Record, kind: type) -> str:
    """What the file holds, what was wanted, and what may help."""
    path, name, _ = format_of(file, "auto")
    other = SIBLINGS.get(name, {}).get(kind)
    hint = f"; read it as {path}#{other}" if other else ""
    return (
        f"{file}: is a file of {HELD[type(record)]} (format {name!r}, first "
        f"{record.id!r}); the stage wants {HELD[kind]}{hint}"
    )


def prompt_of(record: Demonstration | Ranking) -> Prompt:
    """The prompt of a record, with what is known of it."""
    shared = {name: getattr(record, name) for name in Prompt.model_fields}
    if isinstance(record, Demonstration) and record.messages is not None:
        shared["messages"] = record.messages[:-1]  # without the response
    return Prompt(**shared)


def as_records(rows: Iterable[Any], kind: type) -> "KindRecords":
    """Records of one kind, from records or from plain texts.

    Args:
      rows: records, or texts where the kind is `Prompt` or `Text`; a `Prompt` is also
        taken from a demonstration or a ranking, without its responses.
      kind: `Demonstration`, `Ranking`, `Prompt` or `Text`.

    Raises:
      InputError: a row of another kind, or an empty text; when it is asked for.
    """
    return KindRecords(rows, kind)


@dataclasses.dataclass
class KindRecords:
    """Records of one kind; see `as_records`."""

    rows: Iterable[Any]
    kind: type

    @property
    def intake(self) -> Intake | None:
        """What became of the rows of files; None where they are objects."""
        return getattr(self.rows, "intake", None)

    def __iter__(self) -> Iterator[Any]:
        field = {Prompt: "prompt", Text: "text"}.get(self.kind)
        for number, row in enumerate(self.rows):
            if isinstance(row, str) and field is not None:
                if not row.strip():
                    why = "expected text, got only white space"
                    raise InputError(f"row {number}: {why}")
                yield self.kind(**{"id": str(number), field: row})
            elif self.kind is Prompt and isinstance(row, Demonstration | Ranking):
                yield prompt_of(row)
            elif isinstance(row, self.kind):
                yield row
            else:
                raise InputError(
                    f"row {number}: a {type(row).__name__}, expected a "
                    f"{self.kind.__name__}"
                )


def fitting(
    prompts: Iterable[Prompt],
    tokenizer: Any,
    max_prompt: int,
    account: Account | None = None,
) -> list[Prompt]:
    """The prompts of at most `max_prompt` tokens, the begin token among them.

    How many are left out is told in the log, and booked in `account`.
    """
    prompts = list(prompts)
    begin = tokenizer.begin_token is not None
    rows = tokenizer.encode_batch([prompt.prompt for prompt in prompts])
    kept = [
        prompt
        for prompt, row in zip(prompts, rows, strict=True)
        if begin + len(row) <= max_prompt
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


def read_prompts(files: Sequence[str], account: Account | None = None) -> list[Prompt]:
    """All prompts of the files; `account` gains what became of their rows."""
    records = read_rows(files, Prompt)
    prompts = list(records)
    if account is not None:
        account.read += len(prompts)
        account.begin(records.intake)
    return prompts


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


def encode_prompts(
    prompts: Sequence[str],
    tokenizer: Any,
    max_prompt: int,
    *,
    account: Account | None = None,
) -> dict[str, np.ndarray]:
    """One batch of given texts in their order: `prompts`, `valid`, `row`.

    A prompt longer than `max_prompt` keeps its row but loses its beginning; an empty
    one is read as the end of an earlier text, as GPT-2 does.
    """
    rows = tokenizer.encode_batch(list(prompts))
    begin = [] if tokenizer.begin_token is None else [tokenizer.begin_token]
    rows = [begin + row or [tokenizer.end_token] for row in rows]
    tokens = np.full((len(rows), max_prompt), tokenizer.pad_token, np.int32)
    valid = np.zeros((len(rows), max_prompt), bool)
    for i, row in enumerate(rows):
        kept = row[-max_prompt:]
        if account is not None and len(kept) < len(row):
            account.cut[f"at the beginning to max_prompt {max_prompt}"] += 1
        if kept:
            tokens[i, -len(kept) :] = kept
            valid[i, -len(kept) :] = True
    return {"prompts": tokens, "valid": valid, "row": np.arange(len(rows))}
