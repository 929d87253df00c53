"""Any file by a map of its columns: `FILE#map:prompt=question,response=answer`.

    map    = target "=" source {"," target "=" source}
    source = path | "[" path {"," path} "]"
    path   = name {"." name}

A name is a column, a field below it, or a number in a list; `*` is every item of a
list. A name with one of `, = [ ] . "` stands in double quotes, as JSON writes it. A
column whose own name has dots is found by it. `docs/formats.md` tells the targets.
"""

import difflib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
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
from rlhf_jax.data.readers.conversations import content_of, messages_of
from rlhf_jax.data.readers.pairs import SPLITS, pair
from rlhf_jax.data.records import Message, Record, Text
from rlhf_jax.data.rows import Row, RowError, as_number, as_text, parsed
from rlhf_jax.errors import InputError

__all__ = ["MAP", "TARGETS", "ColumnMap", "Source", "parsed_map"]

MAP = "map:"
NAMES = ("id", "group", "user", "split", "use_case", "source", "labeler")
OPTIONAL = {*NAMES, "system", "history"}  # may be absent in a row
TARGETS = {
    "prompt", "response", "responses", "chosen", "rejected", "ranks", "scores", "best",
    "messages", "text", *OPTIONAL,
}  # fmt: skip
TOKEN = re.compile(
    r'\s*("(?:[^"\\]|\\.)*"|[^,=\[\]."\s](?:[^,=\[\]."]*[^,=\[\]."\s])?|.)'
)
JUDGED = ("ranks", "scores", "best")


@dataclass(frozen=True)
class Source:
    """Where a target comes from: the names of one path, or of several in brackets."""

    paths: tuple[tuple[str, ...], ...]
    several: bool = False

    @property
    def columns(self) -> list[str]:
        """The paths as they are written."""
        return [".".join(path) for path in self.paths]


@dataclass(frozen=True)
class ColumnMap:
    """What a record's fields are made of."""

    sources: dict[str, Source]

    def convert(self, row: Row) -> Iterator[Record]:
        """The record of a row."""
        given = _Given(self, row)
        yield _record(given)

    def missing(self, rows: Iterable[Row]) -> str | None:
        """What is wrong when none of these rows has a column that is named."""
        columns = list(dict.fromkeys(name for row in rows for name in row.value))
        for target, source in self.sources.items():
            for path in source.paths:
                if path[0] not in columns and ".".join(path) not in columns:
                    return (
                        f"map: {target}: no column {path[0]!r}{_like(path[0], columns)}"
                    )
        return None


def _like(name: str, known: Iterable[str]) -> str:
    """What may have been meant, and what there is."""
    known = list(known)
    near = difflib.get_close_matches(name, known, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{hint}; there are {', '.join(known)}"


def parsed_map(text: str) -> ColumnMap:
    """The map that stands behind `map:`.

    >>> parsed_map('prompt=question,responses=[a,b.text],best=label').sources["best"]
    Source(paths=(('label',),), several=False)

    Raises:
      InputError: not of this form, an unknown target, or targets that make no record.
    """
    tokens = [found for found in TOKEN.findall(text) if found.strip()]
    sources: dict[str, Source] = {}
    at = 0
    while at < len(tokens):
        target = tokens[at]
        if target not in TARGETS:
            raise InputError(
                f"map: no target {target!r}{_like(target, sorted(TARGETS))}"
            )
        if target in sources:
            raise InputError(f"map: {target}: occurs more than once")
        if tokens[at + 1 : at + 2] != ["="]:
            raise InputError(f"map: {target}: expected = and a column")
        sources[target], at = _source(target, tokens, at + 2)
        if at < len(tokens) and tokens[at] != ",":
            raise InputError(f"map: {target}: expected a comma, got {tokens[at]!r}")
        if at == len(tokens) - 1:
            raise InputError("map: expected a target behind the last comma")
        at += 1
    made = ColumnMap(sources)
    _check(set(sources))
    return made


def _source(target: str, tokens: list[str], at: int) -> tuple[Source, int]:
    if tokens[at : at + 1] != ["["]:
        path, at = _path(target, tokens, at)
        return Source((path,)), at
    paths = []
    while True:
        path, at = _path(target, tokens, at + 1)
        paths.append(path)
        if tokens[at : at + 1] == ["]"]:
            return Source(tuple(paths), several=True), at + 1
        if tokens[at : at + 1] != [","]:
            raise InputError(f"map: {target}: expected ] behind {paths[-1][-1]!r}")


def _path(target: str, tokens: list[str], at: int) -> tuple[tuple[str, ...], int]:
    names: list[str] = []
    while True:
        token = tokens[at] if at < len(tokens) else ""
        if token in ("", ",", "=", "[", "]", ".") or token == '"':
            got = token or "the end"
            raise InputError(f"map: {target}: expected a column, got {got!r}")
        names.append(json.loads(token) if token.startswith('"') else token)
        if tokens[at + 1 : at + 2] != ["."]:
            return tuple(names), at + 1
        at += 2


def _check(targets: set[str]) -> None:
    """Refuses targets that make no record, or contradict each other."""
    rest = targets - OPTIONAL
    judged = rest & set(JUDGED)
    allowed = [
        {"text"},
        {"prompt"},
        {"messages"},
        {"prompt", "response"},
        {"messages", "response"},
        {"chosen", "rejected"},
        {"prompt", "chosen", "rejected"},
        {"messages", "chosen", "rejected"},
        *({"prompt", "responses", name} for name in judged),
        *({"messages", "responses", name} for name in judged),
    ]
    if rest not in allowed:
        got = ", ".join(sorted(rest)) or "none"
        raise InputError(
            "map: expected text; prompt or messages, alone or with response; with "
            "responses and one of ranks, scores, best; or with chosen and rejected; "
            f"got {got}"
        )


class _Given:
    """A row, by target instead of column."""

    def __init__(self, map: ColumnMap, row: Row):
        self.map, self.row = map, row

    def __contains__(self, target: str) -> bool:
        return target in self.map.sources

    def value(self, target: str) -> Any:
        """What stands where the map says; a list where it names several places."""
        source = self.map.sources[target]
        found = [_at(self.row.value, path, target) for path in source.paths]
        return found if source.several else found[0]

    def several(self, target: str) -> list[Any]:
        """A list: of the places in brackets, or in one place, maybe as JSON text."""
        found = self.value(target)
        if isinstance(found, str):
            found = _unfolded(found, target)
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
        return ",".join(self.map.sources[target].columns)


def _at(value: Any, path: tuple[str, ...], target: str) -> Any:
    """What stands at a path; None where an optional target has nothing.

    Raises:
      RowError: nothing is there.
    """
    whole = ".".join(path)
    if isinstance(value, dict) and whole in value:
        return value[whole]
    for at, name in enumerate(path):
        if name == "*" and isinstance(value, list):
            return [_at(item, path[at + 1 :], target) for item in value]
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
            there = _like(name, value) if isinstance(value, dict) else ""
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
    source = given.map.sources["responses"]
    names = source.columns if source.several else []
    return ranks_of_choice(given.value(name), responses, names, given.place(name))
