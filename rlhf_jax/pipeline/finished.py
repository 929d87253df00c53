"""What a finished stage consists of, and whether it is still all there.

    <stage>/manifest.json   hash of each file of the stage
    <stage>/done.json       the stage's content hash and that of the manifest; written
                            last, and vouches for itself

Left out are checkpoints, which have manifests of their own and are no result, and what
only people look at. Parameters are covered through the manifest of their checkpoint.
"""

import hashlib
import json
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import jax

from rlhf_jax.checkpoints.catalogue import Catalogue
from rlhf_jax.checkpoints.leaves import leaf_specs
from rlhf_jax.checkpoints.manifest import NAME as CHECKPOINT
from rlhf_jax.checkpoints.manifest import read_manifest
from rlhf_jax.checkpoints.preflight import check_leaves
from rlhf_jax.data import load_tokenizer
from rlhf_jax.errors import InputError, RunError
from rlhf_jax.registry.directories import fresh_params, read_description
from rlhf_jax.registry.ensemble import members_of
from rlhf_jax.storage import content_of, decided, is_first_process, write_json

__all__ = [
    "DONE",
    "damage",
    "done_hash",
    "mark_done",
    "require_intact",
    "require_result",
]

MANIFEST, DONE = "manifest.json", "done.json"
_NOT_RESULTS = {"checkpoints", "tensorboard", "wandb"}


def mark_done(folder: pathlib.Path, wanted: str, **figures: Any) -> None:
    """Writes the manifest of a stage and, last, that it is done.

    Args:
      folder: of the stage.
      wanted: its content hash.
      **figures: what else `done.json` tells, such as the seconds it took.
    """
    first = is_first_process()  # the others write nothing, and wait
    files = {n: content_of(folder / n) for n in _files(folder)} if first else {}
    write_json(folder / MANIFEST, {"files": files}, sort_keys=True)
    manifest = content_of(folder / MANIFEST) if first else None
    done = {"hash": wanted, "manifest": manifest, **figures}
    write_json(folder / DONE, done | {"checksum": _checksum(done)}, sort_keys=True)


def done_hash(folder: pathlib.Path) -> str | None:
    """The content hash that a directory was finished under, or None."""
    done = _done(folder)
    return None if done is None else done["hash"]


def _done(folder: pathlib.Path) -> dict[str, Any] | None:
    try:
        done = json.loads((folder / DONE).read_text())
        checksum = done.pop("checksum")
        return done if checksum == _checksum(done) and "hash" in done else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _checksum(done: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(done, sort_keys=True).encode()).hexdigest()


def damage(
    folder: pathlib.Path, only: Callable[[str], bool] = lambda name: True
) -> str | None:
    """What is wrong with a finished stage, naming the first bad file; None: nothing.

    Args:
      folder: of the stage.
      only: relative name -> whether that file matters to the one who asks.
    """
    done = _done(folder)
    try:
        if done is None:
            return f"{folder / DONE}: absent or damaged"
        if content_of(folder / MANIFEST) != done["manifest"]:
            return f"{folder / MANIFEST}: its bytes have changed"
        wanted = json.loads((folder / MANIFEST).read_text())["files"]
        found = set(_files(folder))
        for name in sorted(filter(only, wanted)):
            if name not in found:
                return f"{folder / name}: absent"
            if content_of(folder / name) != wanted[name]:
                return f"{folder / name}: its bytes have changed"
            if pathlib.PurePath(name).name == CHECKPOINT:
                if wrong := _parameter_damage((folder / name).parent):
                    return wrong
        foreign = {name for name in found - set(wanted) if "/" in name}
        for name in sorted(filter(only, foreign)):
            return f"{folder / name}: was not there when the stage was done"
    except OSError as error:
        return f"{error.filename or folder}: {error.strerror}"
    except RunError as error:
        return str(error)
    return None


def _parameter_damage(folder: pathlib.Path) -> str | None:
    """What is wrong with the files of a checkpoint whose manifest is whole."""
    for name, (_, checksum) in sorted(read_manifest(folder).files.items()):
        if content_of(folder / name) != checksum:
            return f"{folder / name}: its bytes have changed"
    return None


def require_intact(
    folder: pathlib.Path, only: Callable[[str], bool] = lambda name: True
) -> None:
    """Refuses the files of a finished stage that are gone or changed.

    Raises:
      InputError: names the file, and how to make it again.
    """
    if wrong := damage(folder, only):
        raise InputError(
            f"{wrong}; put back what was there, or run the stage {folder.name!r} again"
        )


def _files(folder: pathlib.Path) -> Iterator[str]:
    """Relative names of what belongs to a stage; of a checkpoint its manifest."""
    waiting = [folder]
    while waiting:
        here = waiting.pop()
        entries = [e for e in list(os.scandir(here)) if not e.name.startswith(".")]
        if any(entry.name == CHECKPOINT for entry in entries):
            entries = [entry for entry in entries if entry.name == CHECKPOINT]
        for entry in entries:
            name = pathlib.Path(entry.path).relative_to(folder).as_posix()
            if entry.is_dir(follow_symlinks=False):
                waiting += [here / entry.name] * (entry.name not in _NOT_RESULTS)
            elif name not in (MANIFEST, DONE):
                yield name


def require_result(name: str, result: Any) -> None:
    """Refuses a stage that has returned without a result that can be used.

    Args:
      name: of the stage.
      result: what its `run` has returned: a file or a directory. None: the stage tells
        of none.

    Raises:
      RunError: nothing is there, or it is a model that cannot be read; looked at by
        process 0, raised on all.
    """
    if result is not None:
        decided(lambda: _require_result(name, pathlib.Path(result)))


def _require_result(name: str, path: pathlib.Path) -> None:
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        raise RunError(f"{name}: has ended without its result {path}")
    if members := members_of(path):
        for member in members:
            require_model(member)
    elif (path / "model.json").is_file():
        require_model(path)
    elif path.suffix == ".json":
        try:
            json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise RunError(f"{name}: its result {path} is no JSON: {error}") from error


def require_model(path: pathlib.Path) -> None:
    """Reads of a model directory all but the arrays, whose bytes are verified.

    Raises:
      InputError: what it describes is no model, or not these parameters.
      CheckpointError: the parameters are damaged.
    """
    model, _ = read_description(path)
    load_tokenizer(path / "tokenizer")
    params = jax.eval_shape(lambda: fresh_params(model, jax.random.key(0)))
    wanted = leaf_specs({"params": params})
    Catalogue(path / "params").choose(
        None, lambda step, manifest: check_leaves(step, manifest.leaves, wanted)
    )
