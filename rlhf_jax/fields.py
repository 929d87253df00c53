"""What a field of a config is to its stage: a file, a model, a length.

The type says it, so that nobody guesses it from the value:

    rankings: tuple[DataFile, ...]      a file; its bytes are part of the stage
    steps: Length = 1000                how long; a run may be made longer
    max_kl: Stop = 200.0                when to stop; may be changed after a stop
    evaluate_every: Watch = 200         what is looked at; changes no result

A string of any other type is never taken for a path, whatever lies in the working
directory. Lengths, stops and watches are no part of what a stage is.
"""

import dataclasses
import enum
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any


class Role(enum.Enum):
    """What a value stands for."""

    DATA = "a file of rows, with its format behind a # where it does not tell it"
    MODEL = "a directory of a model or a stage, or a name on the hub"
    REWARD = "a model that scores, or python:FILE.py:NAME"
    TOKENIZER = "a directory, byte, or a name on the hub"
    FOLDER = "any other file or directory"
    ANSWERS = "labelers by name, file:PATH of people's answers, label:STUDY"
    LENGTH = "how long a run is"
    STOP = "what stops a run early"
    WATCH = "how often a run is looked at"

    @property
    def is_path(self) -> bool:
        """Whether what the value names, not its spelling, is part of the stage."""
        return self in _PATHS

    @property
    def is_free(self) -> bool:
        """Whether it may change without another stage coming of it."""
        return self in (Role.LENGTH, Role.STOP, Role.WATCH)


_PATHS = (Role.DATA, Role.MODEL, Role.REWARD, Role.TOKENIZER, Role.FOLDER)

DataFile = Annotated[str, Role.DATA]
ModelName = Annotated[str, Role.MODEL]
RewardName = Annotated[str, Role.REWARD]
TokenizerName = Annotated[str, Role.TOKENIZER]
Folder = Annotated[str, Role.FOLDER]
Answers = Annotated[str, Role.ANSWERS]
Length = Annotated[int, Role.LENGTH]
Stop = Annotated[float, Role.STOP]
Watch = Annotated[int, Role.WATCH]


class Leaf(typing.NamedTuple):
    """One value of a config: its key ("rankings[0]"), its role, the value."""

    key: str
    role: Role | None
    value: Any


def leaves(config: Any) -> Iterator[Leaf]:
    """Every value of a config, nested dataclasses, tuples and dicts gone through."""
    found: list[Leaf] = []
    mapped(config, lambda leaf: found.append(leaf))
    return iter(found)


def mapped(value: Any, change: Callable[[Leaf], Any], hint: Any = None, key: str = ""):
    """A config as plain dicts and lists, every value as `change` gives it.

    Args:
      value: a dataclass, or what stands in one.
      change: what becomes of a leaf; a field for which it gives `dataclasses.MISSING`
        is left out.
      hint: the declared type of `value`.
      key: its key.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        hints = typing.get_type_hints(type(value), include_extras=True)
        items = {
            f.name: (getattr(value, f.name), hints[f.name])
            for f in dataclasses.fields(value)
        }
    elif isinstance(value, Mapping):
        items = {str(name): (item, _inner(hint)) for name, item in value.items()}
    elif isinstance(value, tuple | list):
        inner = _inner(hint)
        return [mapped(v, change, inner, f"{key}[{i}]") for i, v in enumerate(value)]
    else:
        return change(Leaf(key, _role(hint), value))
    found = {
        name: mapped(item, change, inner, f"{key}.{name}" if key else name)
        for name, (item, inner) in items.items()
    }
    return {n: v for n, v in found.items() if v is not dataclasses.MISSING}


def _role(hint: Any) -> Role | None:
    """The role in `Annotated[type, role]`, alone or as part of a union."""
    if typing.get_origin(hint) is Annotated:
        roles = [extra for extra in hint.__metadata__ if isinstance(extra, Role)]
        return roles[0] if roles else _role(hint.__origin__)
    parts = [_role(part) for part in typing.get_args(hint)]
    return next((role for role in parts if role is not None), None)


def _inner(hint: Any) -> Any:
    """The type of the items of a tuple, list or dict type; None: not told."""
    for part in (hint, *typing.get_args(hint)):  # `tuple[...] | None`, too
        origin, arguments = typing.get_origin(part), typing.get_args(part)
        if origin in (tuple, list, dict) and arguments:
            return arguments[1] if origin is dict else arguments[0]
    return None
