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
from collections.abc import Iterable
from dataclasses import dataclass

from rlhf_jax.errors import InputError

__all__ = [
    "JUDGED",
    "MAP",
    "NAMES",
    "OPTIONAL",
    "TARGETS",
    "Source",
    "like",
    "parsed_map",
]

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


def like(name: str, known: Iterable[str]) -> str:
    """What may have been meant, and what there is."""
    known = list(known)
    near = difflib.get_close_matches(name, known, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"{hint}; there are {', '.join(known)}"


def parsed_map(text: str) -> dict[str, Source]:
    """The map that stands behind `map:`.

    >>> parsed_map('prompt=question,responses=[a,b.text],best=label')["best"]
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
                f"map: no target {target!r}{like(target, sorted(TARGETS))}"
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
    _check(set(sources))
    return sources


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
