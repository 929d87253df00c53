"""Record files, or the sets of a `candidates` stage, become a batch of items."""

import dataclasses
import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import sqlalchemy as sa
from pydantic import Field, ValidationError

from rlhf_jax.data.readers import read
from rlhf_jax.data.records import Clean, Demonstration, Filled, Prompt, Ranking, Record
from rlhf_jax.errors import InputError
from rlhf_jax.labelling import schema
from rlhf_jax.labelling.access import GROUPS
from rlhf_jax.labelling.guidelines import add_guideline, load_guideline
from rlhf_jax.labelling.store import Store, digest_of
from rlhf_jax.labelling.tasks import Definition, load_definition

__all__ = ["Batch", "CandidateSet", "add_batch", "read_items"]


class CandidateSet(Record):
    """Responses to a prompt that nobody has ranked yet.

    `config` is the digest that a `candidates` stage writes beside its sets.
    """

    prompt: Filled
    responses: list[Clean] = Field(min_length=2)
    config: str | None = None


# what a kind of task can be made from
_ACCEPTS: dict[str, tuple[type[Record], ...]] = {
    "ranking": (Ranking, CandidateSet),
    "pairwise": (Ranking, CandidateSet),
    "flags": (Ranking, CandidateSet, Demonstration),
    "demonstration": (Prompt,),
    "prompt": (Prompt,),
    "chat": (Prompt,),
}


@dataclasses.dataclass
class Batch:
    """Settings of a batch of items.

    Attributes:
      name: unique in the study.
      task: a kind of task that ships, or a YAML or JSON file (tasks.py).
      guideline: "training", "evaluation" or a Markdown file.
      people: "train", "held-out" or "both".
      purpose: "work", or "qualification" for the screening round.
      overlap: answers wanted for each item, each by another person.
      gold_rate: share of tasks that are gold questions instead of work.
      repeat_rate: share that are asked again of the same person; 2 %.
      lease_minutes: how long a task stays with a person who does nothing.
      priority: batches with a smaller number come first.
      price: of one answer, in the study's currency; None: not accounted.
      settings: of the kind of task or of who waits for the answers.
    """

    name: str
    task: str = "ranking"
    guideline: str = "training"
    people: str = "train"
    purpose: str = "work"
    overlap: int = 1
    gold_rate: float = 0.05
    repeat_rate: float = 0.02
    lease_minutes: float = 30.0
    priority: int = 0
    price: float | None = None
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)

    def problems(self) -> Iterable[str]:
        """What cannot work, one line each."""
        if not self.name.strip():
            yield "name: expected one"
        if self.people not in (*GROUPS, "both"):
            yield f"people: {self.people!r} is not {', '.join(GROUPS)} or both"
        if self.purpose not in {"work", "qualification"}:
            yield f"purpose: {self.purpose!r} is not work or qualification"
        if not 1 <= self.overlap <= 100:
            yield f"overlap: {self.overlap} is not from 1 to 100"
        if not (0 <= self.gold_rate and 0 <= self.repeat_rate):
            yield "gold_rate, repeat_rate: expected 0 or more"
        if self.gold_rate + self.repeat_rate > 0.5:
            yield "gold_rate and repeat_rate: together more than a half"
        if self.lease_minutes <= 0:
            yield f"lease_minutes: {self.lease_minutes} is not above 0"
        if self.price is not None and self.price < 0:
            yield f"price: {self.price} is below 0"


def add_batch(
    store: Store,
    batch: Batch,
    records: Iterable[Record],
    *,
    gold: Iterable[Record] = (),
    actor: int | None = None,
) -> int:
    """Writes a batch; its number.

    The same batch once more, with the same items, changes nothing.

    Args:
      store: the study.
      batch: its settings.
      records: what people are to judge; see `_ACCEPTS` for the kinds.
      gold: rankings by researchers, mixed in unseen; in a qualification round
        everything is asked of everybody, and `gold` has the answers to compare with.
      actor: the researcher.

    Raises:
      InputError: settings or records that do not fit, all said at once.
    """
    definition = load_definition(batch.task)
    name, text = load_guideline(batch.guideline)
    wanted, answers = list(records), list(gold)
    problems = [*batch.problems(), *_unfit(definition, wanted, answers)]
    if not wanted and not answers:
        problems.append("no items")
    if problems:
        raise InputError(f"batch {batch.name!r}: " + "; ".join(problems[:20]))
    with store.write() as connection:
        rows = _item_rows(wanted, answers)
        found = _existing(connection, batch.name, rows)
        if found is not None:
            return found
        values = {
            "name": batch.name,
            "definitions_id": add_definition(store, connection, definition),
            "guidelines_id": add_guideline(store, connection, name, text),
            "purpose": batch.purpose,
            "people": None if batch.people == "both" else batch.people,
            "overlap": batch.overlap,
            "gold_rate": batch.gold_rate,
            "repeat_rate": batch.repeat_rate,
            "lease_seconds": batch.lease_minutes * 60,
            "priority": batch.priority,
            "price": batch.price,
            "settings": batch.settings,
            "created_at": store.clock(),
            "closed": False,
        }
        made = connection.execute(schema.batches.insert().values(**values))
        (number,) = made.inserted_primary_key
        _insert(connection, number, rows, batch)
        store.event(
            connection, "batch", actor=actor, batch=number, items=len(rows),
            digest=digest_of([row["digest"] for row in rows]),
        )  # fmt: skip
    return number


def add_definition(
    store: Store, connection: sa.Connection, definition: Definition
) -> int:
    """The id of a definition.

    Raises:
      InputError: the study has another one of this name and version.
    """
    table = schema.definitions
    document = definition.model_dump(mode="json")
    query = sa.select(table).where(
        table.c.name == definition.name, table.c.version == definition.version
    )
    row = connection.execute(query).first()
    if row is None:
        made = table.insert().values(
            name=definition.name, version=definition.version, document=document
        )
        (number,) = connection.execute(made).inserted_primary_key
        store.event(
            connection, "definition", name=definition.name, version=definition.version
        )
        return number
    if row.document != document:
        raise InputError(
            f"task {definition.name!r}: version {definition.version} is in use and "
            "says something else; give the changed file a higher version"
        )
    return row.id


def read_items(path: str | pathlib.Path) -> list[Record]:
    """Records of a file of any known format, or of a `candidates` stage's directory.

    Raises:
      InputError: bad rows, by line and field.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        path = path / "candidates.jsonl"
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if not _has_bare_sets(path):
        return list(read(path))
    found = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                found.append(_candidate_set(line, f"{path}:{number}", number))
    return found


def _has_bare_sets(path: pathlib.Path) -> bool:
    """Whether the first row has responses without ranks."""
    if path.suffix not in {".jsonl", ".json", ".todo"}:
        return False
    with path.open(encoding="utf-8", errors="replace") as lines:
        first = next((line for line in lines if line.strip()), "")
    try:
        row = json.loads(first)
    except json.JSONDecodeError:
        return False
    return isinstance(row, dict) and "responses" in row and "ranks" not in row


def _candidate_set(line: str, where: str, number: int) -> CandidateSet:
    try:
        value = json.loads(line)
        named = {"id": str(number), **value} if isinstance(value, dict) else value
        return CandidateSet.model_validate(named)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the row"
        raise InputError(f"{where}: {field}: {first['msg']}") from error


def _unfit(
    definition: Definition, records: Sequence[Record], gold: Sequence[Record]
) -> Iterable[str]:
    known = _ACCEPTS[definition.kind]
    names = " or ".join(kind.__name__ for kind in known)
    for record in (*records, *gold):
        if not isinstance(record, known):
            kind = type(record).__name__
            yield f"{record.id}: a {kind}; {definition.kind} needs {names}"
        elif definition.kind == "pairwise" and len(set(record.responses)) != 2:
            yield f"{record.id}: pairwise needs two different responses"
    for record in gold:
        if definition.kind in {"ranking", "pairwise"} and isinstance(
            record, CandidateSet
        ):
            yield f"{record.id}: gold needs ranks"
        if definition.kind == "flags" and not getattr(record, "flags", None):
            yield f"{record.id}: gold of the kind flags needs flags"
    ids = [record.id for record in (*records, *gold)]
    for twice in sorted({i for i in ids if ids.count(i) > 1} if _twice(ids) else ()):
        yield f"{twice}: this id occurs more than once"


def _twice(ids: list[str]) -> bool:
    return len(set(ids)) < len(ids)


def _item_rows(
    records: Sequence[Record], gold: Sequence[Record]
) -> list[dict[str, Any]]:
    rows = []
    for position, record in enumerate([*records, *gold]):
        document = record.model_dump(mode="json", exclude_defaults=True)
        answer = None
        if position >= len(records):
            known = ("ranks", "flags", "likert")
            answer = {k: document.get(k) for k in known if document.get(k)} or {
                "marked": True
            }
        rows.append(
            {
                "key": record.id,
                "position": position,
                "record": document,
                "digest": digest_of(document),
                "sensitive": bool(record.meta.get("sensitive", False)),
                "gold": answer,
            }
        )
    return rows


def _existing(
    connection: sa.Connection, name: str, rows: list[dict[str, Any]]
) -> int | None:
    """The number of the batch of this name, if it has these items."""
    batches, items = schema.batches, schema.items
    query = sa.select(batches.c.id).where(batches.c.name == name)
    number = connection.scalar(query)
    if number is None:
        return None
    query = sa.select(items.c.digest).where(items.c.batches_id == number)
    found = connection.scalars(query.order_by(items.c.position)).all()
    if list(found) != [row["digest"] for row in rows]:
        raise InputError(f"batch {name!r}: exists, with other items")
    return number


def _insert(
    connection: sa.Connection, number: int, rows: list[dict[str, Any]], batch: Batch
) -> None:
    """Items, and a slot for every answer that is wanted."""
    items, slots = schema.items, schema.slots
    connection.execute(items.insert(), [{**row, "batches_id": number} for row in rows])
    if batch.purpose == "qualification":
        return
    query = sa.select(items.c.id, items.c.position).where(
        items.c.batches_id == number, items.c.gold.is_(None)
    )
    made = [
        {
            "items_id": row.id,
            "batches_id": number,
            "position": row.position,
            "number": slot,
        }
        for row in connection.execute(query.order_by(items.c.position))
        for slot in range(batch.overlap)
    ]
    if made:
        connection.execute(slots.insert(), made)
