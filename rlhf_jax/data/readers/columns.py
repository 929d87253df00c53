"""Records by a column map (see `column_map`): what each target means."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from rlhf_jax.data.readers.assembled import (
    Before,
    asked,
    before,
    demonstration,
    history_of,
    ranked,
    spoken,
    with_system,
)
from rlhf_jax.data.readers.choices import ranks_of_choice
from rlhf_jax.data.readers.column_map import JUDGED, NAMES, OPTIONAL, Source, like
from rlhf_jax.data.readers.conversations import content_of, messages_of
from rlhf_jax.data.readers.formats import Format
from rlhf_jax.data.readers.meaning import unused
from rlhf_jax.data.readers.pairs import SPLITS, pair
from rlhf_jax.data.records import Message, Record, Text
from rlhf_jax.data.rows import Row, RowError, as_number, as_text
from rlhf_jax.data.strict_json import parsed

__all__ = ["mapped"]


def mapped(sources: dict[str, Source]) -> Format:
    """The format of files that are read by a column map.

    A column that changes what a row means and that the map does not name is a warning.
    """

    named = {path[0] for source in sources.values() for path in source.paths}
    named |= {".".join(path) for source in sources.values() for path in source.paths}

    def convert(row: Row) -> Iterator[Record]:
        aside = unused(row.value, named)
        yield _record(_Given(sources, row))
        if aside is not None:
            row.notes.append(f"column {aside!r} is not named by the map")

    def missing(rows: Iterable[Row]) -> str | None:
        columns = list(dict.fromkeys(name for row in rows for name in row.value))
        for target, source in sources.items():
            for path in source.paths:
                if path[0] not in columns and ".".join(path) not in columns:
                    told = f"map: {target}: no column {path[0]!r}"
                    return told + like(path[0], columns)
        return None

    return Format(convert, (frozenset(),), missing=missing)


class _Given:
    """A row, by target instead of column."""

    def __init__(self, sources: dict[str, Source], row: Row):
        self.sources, self.row = sources, row

    def __contains__(self, target: str) -> bool:
        return target in self.sources

    def value(self, target: str) -> Any:
        """What stands where the map says; a list where it names several places."""
        source = self.sources[target]
        found = [_at(self.row.value, path, target) for path in source.paths]
        return found if source.several else found[0]

    def several(self, target: str) -> list[Any]:
        """A list: of the places in brackets, or in one place, maybe as JSON text."""
        found = self.value(target)
        if isinstance(found, str):
            found = _unfolded(found, self.place(target))
        if not isinstance(found, list):
            got = type(found).__name__
            raise RowError(self.place(target), f"expected a list, got {got}")
        return found

    def text(self, target: str) -> str:
        return content_of(self.value(target), self.place(target))

    def name(self, target: str) -> str | None:
        """Text or a number; None where there is none."""
        if target not in self:
            return None
        found = self.value(target)
        if found is None or found == "":
            return None
        if isinstance(found, int | float) and not isinstance(found, bool):
            return str(found)
        return as_text(found, self.place(target))

    def place(self, target: str) -> str:
        return ",".join(self.sources[target].columns)


def _at(value: Any, path: tuple[str, ...], target: str) -> Any:
    """What stands at a path; None where an optional target has nothing.

    Raises:
      RowError: nothing is there.
    """
    whole = ".".join(path)
    if isinstance(value, dict) and whole in value:
        return value[whole]
    for at, name in enumerate(path):
        if isinstance(value, str) and value[:1] in ("[", "{"):  # JSON in a cell
            value = _unfolded(value, whole)
        if name == "*" and isinstance(value, list):
            return [_at(item, path[at + 1 :], target) for item in value]
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and _within(name, value):
            value = value[int(name)]
        elif target in OPTIONAL or target in ("ranks", "scores"):
            return None
        else:
            there = like(name, value) if isinstance(value, dict) else ""
            raise RowError(whole, f"nothing at {name!r}{there}")
    return value


def _within(name: str, items: list) -> bool:
    return name.removeprefix("-").isdecimal() and -len(items) <= int(name) < len(items)


def _unfolded(text: str, place: str) -> Any:
    try:
        return parsed(text.encode("utf-8", "surrogatepass"))
    except RowError as error:
        raise RowError(place, f"expected JSON in the cell: {error.why}") from error


def _record(given: _Given) -> Record:
    fields = {name: given.name(name) for name in NAMES if name in given}
    split = fields.get("split")
    if split is not None:
        fields["split"] = SPLITS.get(split, split)
    fields = {k: v for k, v in fields.items() if v is not None}
    fields.setdefault("id", given.row.name)
    if "text" in given:
        return Text(text=given.text("text"), **fields)
    if "chosen" in given:
        return _pair(given, fields)
    if "responses" in given:
        return _ranking(given, fields)
    said = _before(given)
    if "response" in given:
        return demonstration(said, given.text("response"), **fields)
    if isinstance(said, str):
        return asked(said, **fields)
    return spoken(
        said, given.place("messages" if "messages" in given else "prompt"), **fields
    )


def _before(given: _Given) -> Before:
    """The prompt or the messages, behind system prompt and history."""
    told = {"system": given.name("system") or ""} if "system" in given else {}
    shown = Row(given.row.file, given.row.line, told)
    if "messages" in given:
        turns = messages_of(given.several("messages"), given.place("messages"))
        return with_system(shown, turns)
    value = given.value("prompt")
    said = (
        before(value, given.place("prompt")) if _turns(value) else given.text("prompt")
    )
    history = given.value("history") if "history" in given else None
    earlier = history_of(history) if history else []
    if isinstance(said, str):
        if not earlier and not told.get("system"):
            return said
        said = [Message(role="user", content=said)]
    return with_system(shown, [*earlier, *said])


def _turns(value: Any) -> bool:
    """Whether a value is a conversation, and no list of parts of one text."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(item, dict) and ("role" in item or "from" in item)
            for item in value
        )
    )


def _pair(given: _Given, fields: dict[str, Any]) -> Record:
    value = {key: given.value(key) for key in ("chosen", "rejected")}
    for key, said in value.items():
        if isinstance(said, list) and not _turns(said):
            value[key] = content_of(said, given.place(key))
    if "prompt" in given or "messages" in given:
        value["prompt"] = _before(given)
        if not isinstance(value["prompt"], str):
            value["prompt"] = [m.model_dump(exclude_none=True) for m in value["prompt"]]
    made = pair(Row(given.row.file, given.row.line, value))
    # fields that the map does not name are as for a row without them
    return made.model_copy(update={"source": None, **fields})


def _ranking(given: _Given, fields: dict[str, Any]) -> Record:
    place = given.place("responses")
    responses = given.several("responses")
    name = next(name for name in JUDGED if name in given)
    judge: Callable = {"ranks": _ranks, "scores": _scores, "best": _best}[name]
    ranks = judge(given, name, responses)
    kept = [
        i
        for i, (text, rank) in enumerate(zip(responses, ranks, strict=True))
        if text is not None and rank is not None
    ]
    if len(kept) < len(responses):
        what = "response that is absent or has no rank"
        given.row.notes.extend([what] * (len(responses) - len(kept)))
    texts = [content_of(responses[i], f"{place}[{i}]") for i in kept]
    return ranked(_before(given), texts, [ranks[i] for i in kept], **fields)


def _numbers(given: _Given, name: str, responses: list) -> list[float | None]:
    """A number per response; None where there is none."""
    found = given.several(name)
    if len(found) != len(responses):
        raise RowError(
            given.place(name),
            f"expected {len(responses)} entries, one per response, got {len(found)}",
        )
    absent = (None, "", "N/A")
    return [
        None if n in absent or n != n else as_number(n, f"{given.place(name)}[{i}]")
        for i, n in enumerate(found)
    ]


def _ranks(given: _Given, name: str, responses: list) -> list[float | None]:
    return _numbers(given, name, responses)


def _scores(given: _Given, name: str, responses: list) -> list[float | None]:
    return [None if n is None else -n for n in _numbers(given, name, responses)]


def _best(given: _Given, name: str, responses: list) -> list[int]:
    source = given.sources["responses"]
    names = source.columns if source.several else []
    return ranks_of_choice(given.value(name), responses, names, given.place(name))
