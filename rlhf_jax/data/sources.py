"""Files or objects -> records of the kind that a stage wants."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar

from rlhf_jax.data.account import Account
from rlhf_jax.data.readers import format_of, read
from rlhf_jax.data.records import Demonstration, Prompt, Ranking, Record, Text
from rlhf_jax.data.rows import Intake
from rlhf_jax.errors import InputError

__all__ = [
    "as_records",
    "booked",
    "prompt_of",
    "read_prompts",
    "read_rows",
    "read_told",
]

T = TypeVar("T")

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

    def __post_init__(self):
        if iter(self.rows) is self.rows:  # a generator, which could be read only once
            self.rows = list(self.rows)

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


def read_prompts(files: Sequence[str], account: Account | None = None) -> list[Prompt]:
    """All prompts of the files; `account` gains what became of their rows."""
    return read_told(files, Prompt, Account() if account is None else account)


def read_told(files: Sequence[str], kind: type, account: Account) -> list[Any]:
    """All records of the files; `account` gains what became of their rows."""
    return booked(read_rows(files, kind), account)


def booked(records: Iterable[T], account: Account) -> list[T]:
    """All records; `account` gains how many, and what reading them left out."""
    found = list(records)
    account.read += len(found)
    if (intake := getattr(records, "intake", None)) is not None:
        account.begin(intake)
    return found
