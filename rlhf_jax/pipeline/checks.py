"""What can be known to fail before anything is spent: files, models, rewards, lengths.

The dry run tells it, and a run before it touches its directory.
"""

import ast
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

from rlhf_jax.errors import InputError
from rlhf_jax.fields import Leaf, Role, leaves
from rlhf_jax.models import EncoderConfig
from rlhf_jax.pipeline.experiment import Experiment, kind_of, references
from rlhf_jax.pipeline.plan import Shape, shape_of_model, shapes_of
from rlhf_jax.registry.directories import ENSEMBLE, model_directory
from rlhf_jax.registry.functions import function_file, is_function
from rlhf_jax.storage import looks_local
from rlhf_jax.training.identity import split_format

__all__ = ["problems_of", "require_ready"]

# kinds that only train on prompts and responses; all others sample, too
_TRAINED = ("sft", "reward", "dpo")


def require_ready(experiment: Experiment, only: Sequence[str] | None = None) -> None:
    """Refuses an experiment of which a stage could not begin or end.

    Args:
      experiment: what.
      only: names of the stages that shall run; None: all.

    Raises:
      InputError: all problems at once.
    """
    if found := list(problems_of(experiment, only)):
        count = f"{len(found)} problem{'s' if len(found) > 1 else ''}"
        lines = "\n".join(f"  - {line}" for line in found)
        raise InputError(f"the experiment has {count}:\n{lines}")


def problems_of(
    experiment: Experiment, only: Sequence[str] | None = None
) -> Iterator[str]:
    """One line for each problem, with the key of the setting."""
    shapes, before = shapes_of(experiment), []
    for name, config in experiment.stages.items():
        if only is None or name in only:
            found = [*_later(config, before), *_named(config), *_rooms(config, shapes)]
            yield from (f"config.{name}.{line}" for line in found)
        before.append(name)


def _later(config: Any, before: Sequence[str]) -> Iterator[str]:
    for leaf in leaves(config):
        for reference in references(leaf.value):
            if reference.split("/")[0] not in before:
                yield f"{leaf.key}: @{reference} comes later in the experiment"
            if ".." in pathlib.PurePath(reference).parts:
                yield f"{leaf.key}: @{reference} leads out of the stage"


def _named(config: Any) -> Iterator[str]:
    """Paths that name nothing, or something else than is expected."""
    for leaf in leaves(config):
        if leaf.role is None or not leaf.role.is_path or not leaf.value:
            continue
        if leaf.value.startswith("@"):
            continue
        try:
            wrong = _CHECKS[leaf.role](leaf.value)
        except InputError as error:
            wrong = str(error)
        except OSError as error:
            wrong = f"{error.filename or leaf.value}: {error.strerror}"
        if wrong:
            yield f"{leaf.key}: {wrong}"


def _data(text: str) -> str | None:
    path, _ = split_format(text)
    if text.startswith("hf:") or pathlib.Path(path).is_file():
        return None
    return f"{path}: {'a directory' if pathlib.Path(path).is_dir() else 'no such file'}"


def _model(text: str) -> str | None:
    path = pathlib.Path(text)
    if not path.exists():
        return f"{text}: no such model" if looks_local(text) else None
    folder = pathlib.Path(model_directory(text))
    known = ("model.json", ENSEMBLE, "config.json")
    if not any((folder / name).is_file() for name in known):
        return f"{text}: neither model.json nor config.json is there"
    return None


def _reward(text: str) -> str | None:
    if not is_function(text):
        return _model(text)
    file, name = function_file(text)
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError) as error:
        return f"{file}: no Python: {error}"
    return None if name in set(_bound(tree)) else f"{file}: defines no {name!r}"


def _bound(tree: ast.Module) -> Iterator[str]:
    """Names that the top of a module binds."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.alias):
            yield node.asname or node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id


def _tokenizer(text: str) -> str | None:
    missing = text != "byte" and not pathlib.Path(text).exists()
    return f"{text}: no such tokenizer" if missing and looks_local(text) else None


def _folder(text: str) -> str | None:
    return None if pathlib.Path(text).exists() else f"{text}: no such file or directory"


_CHECKS = {
    Role.DATA: _data,
    Role.MODEL: _model,
    Role.REWARD: _reward,
    Role.TOKENIZER: _tokenizer,
    Role.FOLDER: _folder,
}


def _rooms(config: Any, shapes: dict[str, Shape]) -> Iterator[str]:
    """Texts that do not fit the context of a model that reads them."""
    for leaf in leaves(config):
        if leaf.role not in (Role.MODEL, Role.REWARD) or not leaf.value:
            continue
        shape = _shape(leaf, shapes)
        if shape is None:
            continue
        if isinstance(shape, EncoderConfig):
            yield from _rooms_of_encoder(config, leaf, shape)
            continue
        trained_only = kind_of(config) in _TRAINED and shape.positions != "learned"
        for what, needed in _lengths(config, leaf.role):
            if needed > shape.context_length and not trained_only:
                yield (
                    f"{what} is {needed} tokens, expected at most "
                    f"{shape.context_length}, the context of {leaf.key} {leaf.value}"
                )
    window, shape = getattr(config, "window", None), getattr(config, "model", None)
    if shape is not None and window is not None and window > shape.context_length:
        context = shape.context_length
        yield f"window is {window} tokens, expected at most {context}, its context"


def _rooms_of_encoder(config: Any, leaf: Leaf, shape: EncoderConfig) -> Iterator[str]:
    """What cannot work where a model is an encoder; as a reward it has own lengths."""
    if leaf.role is Role.REWARD:
        return
    if kind_of(config) == "reward":
        yield from config.problems_of_encoder(shape)
    else:
        yield f"{leaf.key}: {leaf.value} is an encoder, expected a language model"


def _shape(leaf: Leaf, shapes: dict[str, Shape]) -> Shape | None:
    try:
        return shape_of_model(leaf.value, shapes)
    except InputError:
        return None  # told by `_named`, or where it is loaded


def _lengths(config: Any, role: Role) -> Iterator[tuple[str, int]]:
    """What a model of a stage must have room for, in tokens."""
    if hasattr(config, "max_prompt") and hasattr(config, "max_response"):
        total = config.max_prompt + config.max_response
        yield "max_prompt + max_response", total
    if role is Role.MODEL:
        if hasattr(config, "window"):
            yield "window", config.window
        if getattr(config, "ptx_coef", 0):
            yield "ptx_window", config.ptx_window
