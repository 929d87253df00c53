"""What a run must agree with to go on: its config, read for what it means.

A path stands for what it names: the same bytes under another name, or a run that was
moved, are the same. What is free to change (lengths, stops, watches) is left out.
"""

import dataclasses
import functools
import hashlib
import json
import pathlib
import types
from collections.abc import Callable
from typing import Any

from rlhf_jax.data.readers import named
from rlhf_jax.errors import InputError
from rlhf_jax.fields import Leaf, Role, mapped
from rlhf_jax.registry.directories import ENSEMBLE, model_directory
from rlhf_jax.registry.ensemble import members_of
from rlhf_jax.registry.functions import function_file, is_function
from rlhf_jax.storage import content_of, decided

__all__ = ["code_of", "named_content", "portable", "run_of", "split_format"]


def run_of(workdir: pathlib.Path) -> tuple[pathlib.Path, bool]:
    """(Directory of the run, whether a pipeline runs it) of the directory of a stage or
    of a member of one; the same on all processes."""
    folders = (workdir, workdir.parent)

    def depth() -> int | None:
        found = [n for n, f in enumerate(folders) if (f / "stage.json").exists()]
        return found[0] if found else None

    place = decided(depth)
    return folders[place or 0].parent, place is not None


def portable(config: Any, run: pathlib.Path, *, free: bool = False) -> dict[str, Any]:
    """A config as JSON types: paths below the run as `"@path"`, others as contents.

    Args:
      config: a dataclass; None: {}.
      run: directory of the run.
      free: keep the fields that may change, too.
    """
    root = run.absolute()

    def known(leaf: Leaf) -> Any:
        if leaf.role is None or not isinstance(leaf.value, str):
            dropped = leaf.role is not None and leaf.role.is_free and not free
            return dataclasses.MISSING if dropped else leaf.value
        place = pathlib.Path(leaf.value).absolute()
        if leaf.role.is_path and place.is_relative_to(root):
            return f"@{place.relative_to(root).as_posix()}"
        return named_content(leaf)

    plain = {} if config is None else mapped(config, known)
    return json.loads(json.dumps(plain, default=str))


def named_content(leaf: Leaf) -> Any:
    """The content that a path stands for, with its format; any other value as it is."""
    text = leaf.value
    if leaf.role is None or not leaf.role.is_path or not isinstance(text, str):
        return text
    if text.startswith("@") or (leaf.role is Role.TOKENIZER and text == "byte"):
        return text
    if leaf.role is Role.REWARD and is_function(text):
        file, name = function_file(text)
        if not file.is_file():
            return text
        return {"content": content_of(file), "function": name}
    path, format = split_format(text) if leaf.role is Role.DATA else (text, "")
    if not path or not pathlib.Path(path).exists():
        return text
    if leaf.role in (Role.MODEL, Role.REWARD):
        return {"content": _model_content(path)}
    if leaf.role is Role.DATA:  # the ending tells readers the format
        ending = pathlib.Path(path).suffix.lower()
        return {"content": content_of(path), "format": format, "ending": ending}
    return {"content": content_of(path)}


def split_format(text: str) -> tuple[str, str]:
    """(path, format) of a data file's name; an existing path wins over the #."""
    if pathlib.Path(text).exists():
        return text, ""
    path, format = named(text)
    return path, "" if format == "auto" else format


def _model_content(name: str) -> str:
    """Of a model, of the model of a stage, or of all members of an ensemble."""
    try:
        path = pathlib.Path(model_directory(name))
    except InputError:  # a stage without a model; refused where it is loaded
        path = pathlib.Path(name)
    if not (path / ENSEMBLE).is_file():
        return content_of(path)
    parts = [content_of(folder) for folder in (path, *members_of(path))]
    return hashlib.sha256("".join(parts).encode()).hexdigest()


def code_of(function: Callable) -> str:
    """A hash of what a function does, wherever it stands: its code and the numbers,
    texts and functions that it closes over.

    What else it reads is not seen: globals, other objects, files.

    Args:
      function: any callable; of an object the code of its `__call__`.
    """
    return hashlib.sha256(repr(_told(function)).encode()).hexdigest()


def _told(value: Any) -> Any:
    """A value of a function as something whose `repr` is the same in every process."""
    if isinstance(value, functools.partial):
        given = (value.func, value.args, tuple(sorted(value.keywords.items())))
        return tuple(map(_told, given))
    if isinstance(value, types.CodeType):
        return value.co_code, value.co_names, tuple(map(_told, value.co_consts))
    if isinstance(value, tuple | list):
        return tuple(map(_told, value))
    if isinstance(value, frozenset | set):
        return sorted(repr(_told(item)) for item in value)
    if isinstance(value, str | bytes | int | float | complex | None):
        return value
    if isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        parts = (value.__code__, value.__defaults__, value.__kwdefaults__ or (), cells)
        return tuple(map(_told, parts))
    if isinstance(value, types.MethodType):
        return _told(value.__func__)
    named = value if hasattr(value, "__qualname__") else type(value)
    name = f"{named.__module__}.{named.__qualname__}"
    call = vars(type(value)).get("__call__")
    return name, _told(call) if isinstance(call, types.FunctionType) else None
