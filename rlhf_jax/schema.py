"""Typed configs: dataclass -> `ConfigDict` for the command line, and back, checked.

A stage's settings are a plain dataclass beside the stage. The command line overrides
them through ml_collections' config_flags, which wants a `ConfigDict`; everything below
`run` wants the dataclass again. Going back reports *all* problems at once, each with
its key, what was found, what was expected, and the nearest known name.

`at_least`, `positive` and the like are used in a config's own `problems()`.
"""

import dataclasses
import difflib
import json
import math
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from rlhf_jax.errors import InputError


def at_least(config: Any, least: int, *names: str) -> Iterator[str]:
    """A line for each named field of a config that is less; None is no number."""
    for name in names:
        value = getattr(config, name)
        if value is not None and value < least:
            yield f"{name}: {value} is not at least {least}"


def positive(config: Any, *names: str) -> Iterator[str]:
    """A line for each named field that is 0 or less; None is no number."""
    for name in names:
        value = getattr(config, name)
        if value is not None and value <= 0:
            yield f"{name}: {value} is not positive"


def shares(config: Any, *names: str) -> Iterator[str]:
    """A line for each named field outside [0, 1)."""
    for name in names:
        if not 0 <= getattr(config, name) < 1:
            yield f"{name}: {getattr(config, name)} is not in [0, 1)"


def one_of(config: Any, name: str, options: Iterable[str | None]) -> Iterator[str]:
    """A line if the field is none of the options; None is not among those told."""
    value, options = getattr(config, name), tuple(options)
    if value not in options:
        *others, last = [repr(option) for option in options if option is not None]
        told = f"{', '.join(others)} or {last}" if others else last
        yield f"{name}: {value!r} is not {told}"


def distinct(config: Any, name: str) -> Iterator[str]:
    """A line for what stands twice in a field; its items name results."""
    values = list(getattr(config, name))
    for value in sorted({v for v in values if values.count(v) > 1}):
        yield f"{name}: {value!r} stands there twice"


def divides(config: Any, part: str, whole: str) -> Iterator[str]:
    """A line if the field `part` does not divide the field `whole`, both positive."""
    number, total = getattr(config, part), getattr(config, whole)
    if number > 0 and total > 0 and total % number:
        yield f"{part}: {number} does not divide {whole} {total}"


def as_config_dict(value: Any) -> Any:
    """A dataclass (nested, in tuples and dicts too) as a `ConfigDict`.

    A field that is None and optional becomes a typed placeholder, so that an override
    of it is parsed as the right type.

    Args:
      value: a dataclass instance.

    Returns:
      A `ConfigDict` with the same keys; leaves are unchanged.
    """
    from ml_collections import config_dict

    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        hints = typing.get_type_hints(type(value))
        made = config_dict.ConfigDict()
        for field in dataclasses.fields(value):
            leaf = getattr(value, field.name)
            made[field.name] = (
                _placeholder(hints[field.name])
                if leaf is None
                else as_config_dict(leaf)
            )
        return made
    if isinstance(value, Mapping):
        return config_dict.ConfigDict({k: as_config_dict(v) for k, v in value.items()})
    return value


def _placeholder(hint: Any) -> Any:
    from ml_collections import config_dict

    kinds = [kind for kind in _alternatives(hint) if kind is not type(None)]
    if len(kinds) == 1 and kinds[0] in (str, int, float, bool):
        return config_dict.placeholder(kinds[0])
    return config_dict.placeholder(object)


def _alternatives(hint: Any) -> tuple:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return typing.get_args(hint)
    return (hint,)


def from_config_dict(cls: type, values: Mapping, path: str = "config") -> Any:
    """The dataclass `cls` built from `values`, every field checked.

    After the types, each (nested) dataclass may check its own sense: a method
    `problems(self) -> Iterator[str]` yields one line per problem.

    Args:
      cls: a dataclass type.
      values: a `ConfigDict` or dict with (a subset of) its fields.
      path: the name of the whole, for messages.

    Returns:
      An instance of `cls`.

    Raises:
      InputError: lists every problem found, one per line.
    """
    problems = _Problems()
    built = _build(cls, values, path, problems)
    if problems:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        lines = "\n".join(f"  - {problem}" for problem in problems)
        raise InputError(f"the config has {count}:\n{lines}")
    return built


class _Problems(list[str]):
    """Lines; `sense` counts those of fields that are of the right type."""

    sense = 0

    @property
    def unreadable(self) -> int:
        """How many fields could not be read at all."""
        return len(self) - self.sense


def _build(cls: type, values: Mapping, path: str, problems: _Problems) -> Any:
    hints = typing.get_type_hints(cls)
    known = [field.name for field in dataclasses.fields(cls) if field.init]
    before = problems.unreadable
    for name in values.keys():
        if name not in known:
            problems.append(f"{path}.{name}: unknown field{_suggest(name, known)}")
    kwargs = {
        name: _coerce(hints[name], values[name], f"{path}.{name}", problems)
        for name in known
        if name in values
    }
    if problems.unreadable > before:
        return None
    try:
        made = cls(**kwargs)
    except TypeError as error:
        problems.append(f"{path}: {error}")
        return None
    except ValueError as error:
        problems.append(f"{path}: {error}")
        return None
    check = getattr(made, "problems", None)
    if check is not None:
        lines = [f"{path}.{problem}" for problem in check()]
        problems.extend(lines)
        problems.sense += len(lines)
    return made


def _suggest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"


def _coerce(hint: Any, value: Any, path: str, problems: _Problems) -> Any:
    kinds = _alternatives(hint)
    if type(None) in kinds and (value is None or value == "None"):
        return None
    kinds = tuple(kind for kind in kinds if kind is not type(None))
    if len(kinds) > 1:
        fits = [kind for kind in kinds if _fits(kind, value)]
        kinds = (fits or list(kinds))[:1]
    kind = kinds[0]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        if dataclasses.is_dataclass(value) and isinstance(value, kind):
            return value
        if not is_mapping(value):
            problems.append(f"{path}: expected the fields of {kind.__name__}")
            return None
        return _build(kind, value, path, problems)
    if origin is typing.Literal:
        if value not in arguments:
            options = ", ".join(map(repr, arguments))
            problems.append(f"{path}: {value!r} is not one of {options}")
        return value
    if origin in (tuple, list):
        return _coerce_sequence(arguments, value, path, problems)
    if origin is dict:
        if not is_mapping(value):
            problems.append(f"{path}: expected a mapping, got {value!r}")
            return value
        return {
            key: _coerce(arguments[1], value[key], f"{path}.{key}", problems)
            for key in value.keys()
        }
    return _coerce_scalar(kind, value, path, problems)


def _coerce_sequence(
    arguments: tuple, value: Any, path: str, problems: _Problems
) -> Any:
    if isinstance(value, str) or not isinstance(value, tuple | list):
        problems.append(f"{path}: expected a tuple, got {value!r}")
        return value
    inner = arguments[0]
    return tuple(
        _coerce(inner, item, f"{path}[{i}]", problems) for i, item in enumerate(value)
    )


def _coerce_scalar(kind: Any, value: Any, path: str, problems: _Problems) -> Any:
    if kind is Any or kind is object:
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not _fits(kind, value):
        problems.append(
            f"{path}: expected {kind.__name__}, got {value!r} ({type(value).__name__})"
        )
    elif kind is float and not math.isfinite(value):
        problems.append(f"{path}: {value} is not a finite number")
    return value


def is_mapping(value: Any) -> bool:
    """A dict or a `ConfigDict`, which is no `Mapping` (nor installed everywhere)."""
    return isinstance(value, Mapping) or hasattr(value, "keys")


def _fits(kind: Any, value: Any) -> bool:
    origin = typing.get_origin(kind)
    if dataclasses.is_dataclass(kind):
        return is_mapping(value) or isinstance(value, kind)
    if origin is typing.Literal:
        return value in typing.get_args(kind)
    if origin in (tuple, list):
        return isinstance(value, tuple | list)
    if origin is dict:
        return is_mapping(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in _fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value


def _fields(value: Any) -> Iterator[dataclasses.Field]:
    return iter(dataclasses.fields(value))


def resolved_json(config: Any) -> str:
    """A config as JSON with sorted keys: what is stored with a run and hashed."""
    return json.dumps(_plain(config), indent=2, sort_keys=True, default=str)
