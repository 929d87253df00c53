"""What a run must agree with to go on: its config, read for what it means.

A path stands for what it names: the same bytes under another name, or a run that was
moved, are the same. What is free to change (lengths, stops, watches) is left out.
"""

import dataclasses
import hashlib
import json
import pathlib
from typing import Any

from rlhf_jax.errors import InputError
from rlhf_jax.fields import Leaf, Role, mapped
from rlhf_jax.registry.ensemble import member_directories
from rlhf_jax.registry.functions import function_file, is_function
from rlhf_jax.registry.model_directory import model_directory
from rlhf_jax.storage import content_of

__all__ = ["named_content", "portable", "split_format"]


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
        return (
            {"content": content_of(file), "function": name} if file.exists() else text
        )
    path, named = split_format(text) if leaf.role is Role.DATA else (text, "")
    if not path or not pathlib.Path(path).exists():
        return text
    if leaf.role in (Role.MODEL, Role.REWARD):
        return {"content": _model_content(path)}
    if leaf.role is Role.DATA:  # the ending tells readers the format
        ending = pathlib.Path(path).suffix.lower()
        return {"content": content_of(path), "format": named, "ending": ending}
    return {"content": content_of(path)}


def split_format(text: str) -> tuple[str, str]:
    """(path, format) of a data file's name; an existing path wins over the #."""
    if pathlib.Path(text).exists():
        return text, ""
    path, _, named = text.partition("#")
    return path, named


def _model_content(name: str) -> str:
    """Of a model, of the model of a stage, or of all members of an ensemble."""
    try:
        path = pathlib.Path(model_directory(name))
    except InputError:  # a stage without a model; refused where it is loaded
        path = pathlib.Path(name)
    folders = [path, *(member_directories(path) or ())]
    if len(folders) == 1:
        return content_of(path)
    parts = [content_of(folder) for folder in folders]
    return hashlib.sha256("".join(parts).encode()).hexdigest()
