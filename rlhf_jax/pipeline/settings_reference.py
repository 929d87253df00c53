"""Every setting of a stage as its source describes it: default, unit, where it is from.

What a config's author wrote above a field is read from the source, so that the command
`rlhf-jax config` and the file cannot differ.
"""

import ast
import dataclasses
import difflib
import inspect
import json
import re
import textwrap
import typing
from collections.abc import Iterator
from typing import Any

from rlhf_jax.errors import InputError
from rlhf_jax.fields import Role
from rlhf_jax.stages import KINDS, module_of
from rlhf_jax.training.settings import RunSettings

SETTINGS = "settings"  # of a run, beside its stages

__all__ = ["Setting", "described", "found", "kinds"]


@dataclasses.dataclass(frozen=True)
class Setting:
    """One field.

    Attributes:
      key: with dots, from the stage on: "ppo.kl.kl_coef".
      type: as in the source.
      default: as JSON or the name of a dataclass; None: there is none.
      text: what the source says of it.
      role: what a path or a length is to the stage; None: a plain value.
    """

    key: str
    type: str
    default: str | None
    text: str
    role: str | None = None


def kinds() -> dict[str, str]:
    """Kind of stage, and "settings" of a run -> what its config says it is."""
    found = {kind: _first_line(module_of(kind).Config) for kind in KINDS}
    return found | {SETTINGS: _first_line(RunSettings)}


def found(name: str) -> list[Setting]:
    """The settings that a name means: of a stage, of a part of it, or one alone.

    Args:
      name: "ppo", "ppo.kl" or "ppo.kl.kl_coef"; "settings" are those of a run.

    Raises:
      InputError: there is no such stage or field; names the nearest.
    """
    kind = name.split(".")[0]
    if kind not in (*KINDS, SETTINGS):
        raise InputError(_unknown(kind, (*KINDS, SETTINGS), "kind of stage"))
    config = RunSettings if kind == SETTINGS else module_of(kind).Config
    every = list(described(config, kind))
    if name == kind:
        return every
    some = [s for s in every if s.key == name or s.key.startswith(f"{name}.")]
    if not some:
        raise InputError(_unknown(name, [s.key for s in every], f"setting of {kind}"))
    return some


def described(config: type, prefix: str) -> Iterator[Setting]:
    """The settings of a dataclass, those of its parts behind their own."""
    comments, documented = _comments(config), _attributes(config)
    hints = typing.get_type_hints(config, include_extras=True)
    for field in dataclasses.fields(config):
        key, hint = f"{prefix}.{field.name}", hints[field.name]
        part = next(filter(dataclasses.is_dataclass, _classes(hint)), None)
        text = comments.get(field.name) or documented.get(field.name, "")
        if part is not None and not text:
            text = _first_line(part)
        role = next((r.value for r in _roles(hint)), None)
        written = field.type if isinstance(field.type, str) else _written(hint)
        yield Setting(key, written, _default(field), text, role)
        if part is not None:
            yield from described(part, key)


def _comments(config: type) -> dict[str, str]:
    """Field -> the comment above it, in one line; of its base classes too."""
    texts = {}
    for cls in reversed(config.__mro__):
        if not dataclasses.is_dataclass(cls):
            continue
        lines = textwrap.dedent(inspect.getsource(cls)).splitlines()
        (body,) = ast.parse("\n".join(lines)).body
        for node in (n for n in body.body if isinstance(n, ast.AnnAssign)):
            if above := _above(lines, node.lineno - 1):
                texts[node.target.id] = " ".join(above)
    return texts


def _above(lines: list[str], row: int) -> list[str]:
    """The lines of the comment that ends above a row."""
    above = []
    while row > 0 and lines[row - 1].strip().startswith("#"):
        row -= 1
        above.insert(0, lines[row].strip().lstrip("#").strip())
    return above


def _attributes(config: type) -> dict[str, str]:
    """Field -> its entry under "Attributes:" of the docstring, in one line."""
    doc = inspect.getdoc(config) or ""
    if "Attributes:" not in doc:
        return {}
    part = doc.split("Attributes:")[1].split("\n\n")[0]
    entries = re.findall(r"^  (\w+): (.*(?:\n    .*)*)", part, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in entries}


def _classes(hint: Any) -> Iterator[type]:
    if isinstance(hint, type):
        yield hint
    for inner in typing.get_args(hint):
        yield from _classes(inner)


def _roles(hint: Any) -> Iterator[Role]:
    if isinstance(hint, Role):
        yield hint
    for inner in (*typing.get_args(hint), *getattr(hint, "__metadata__", ())):
        yield from _roles(inner)


def _written(hint: Any) -> str:
    """A type as people write it."""
    if typing.get_origin(hint) is typing.Annotated:
        return _written(typing.get_args(hint)[0])
    if typing.get_origin(hint) is typing.Literal:
        return " | ".join(map(repr, typing.get_args(hint)))
    arguments = typing.get_args(hint)
    if not arguments:
        return "None" if hint is type(None) else getattr(hint, "__name__", str(hint))
    names = [
        "..." if a is Ellipsis else _written(a)
        for a in arguments
        if not isinstance(a, Role)
    ]
    origin = typing.get_origin(hint)
    if origin in (tuple, list, dict):
        return f"{origin.__name__}[{', '.join(names)}]"
    return " | ".join(names)


def _default(field: dataclasses.Field) -> str | None:
    if field.default is not dataclasses.MISSING:
        value = field.default
    elif field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    else:
        return None
    if dataclasses.is_dataclass(value):
        return type(value).__name__
    return json.dumps(value, default=str)


def _first_line(cls: type) -> str:
    return (inspect.getdoc(cls) or "").splitlines()[0]


def _unknown(name: str, known: Any, what: str) -> str:
    near = difflib.get_close_matches(name, known, 3)
    meant = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"{name!r} is no {what}{meant}"
