"""What a stage is known by: a hash over all that decides its result.

Its config, the contents of the files that it names and the stages that it starts from.
How long it runs, what stops it and what is looked at (`rlhf_jax.fields`) are no part of
its `identity`: a longer run is the same stage, which goes on. The `content_hash` has
the length too; a directory finished under that hash is done.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Iterator
from typing import Any

from rlhf_jax.fields import Leaf, Role, leaves, mapped
from rlhf_jax.pipeline.experiment import Experiment, kind_of, references
from rlhf_jax.storage import content_of
from rlhf_jax.training.identity import named_content

__all__ = ["content_hash", "content_hashes", "files_of", "identity", "lengths"]


def content_hashes(experiment: Experiment) -> dict[str, str]:
    """stage name -> content hash, of a whole experiment."""
    hashes: dict[str, str] = {}
    for name, config in experiment.stages.items():
        hashes[name] = content_hash(config, hashes)
    return hashes


def content_hash(config: Any, hashes: dict[str, str]) -> str:
    """SHA-256 over the identity, the length and the answers of people.

    Args:
      config: of the stage.
      hashes: content hashes of the stages before it.
    """
    parts = {"identity": identity(config, hashes), "length": lengths(config)}
    if given := list(_answers(config)):
        parts["answers"] = given
    return _digest(parts)


def identity(config: Any, hashes: dict[str, str]) -> str:
    """SHA-256 over what may not change while a stage goes on in its directory.

    Kind, config, contents of the files named, and the stages referred to; without
    people's answers, which may be corrected.
    """
    return _digest(
        {
            "kind": kind_of(config),
            "config": mapped(config, _known),
            "stages": {r: hashes.get(r.split("/")[0]) for r in references(config)},
        }
    )


def _known(leaf: Leaf) -> Any:
    """A value as far as it decides a result."""
    if leaf.role is not None and leaf.role.is_free:
        return dataclasses.MISSING
    if leaf.role is Role.ANSWERS and str(leaf.value).startswith(("file:", "label:")):
        return str(leaf.value).partition(":")[0]
    return named_content(leaf)


def lengths(config: Any) -> dict[str, int]:
    """Key -> value of the fields that say how long a stage is."""
    return {key: value for key, role, value in leaves(config) if role is Role.LENGTH}


def files_of(config: Any) -> dict[str, str]:
    """Key of each field that names something on this disk -> the hash of what it is."""
    return {
        leaf.key: named_content(leaf)["content"]
        for leaf in leaves(config)
        if isinstance(named_content(leaf), dict)
    }


def _answers(config: Any) -> Iterator[str | None]:
    """What people have answered: the content of `"file:PATH"` (None: not there yet); of
    a study its name, which is all that shows from here."""
    for leaf in leaves(config):
        kind, _, rest = str(leaf.value).partition(":")
        if leaf.role is Role.ANSWERS and kind == "file":
            yield content_of(rest) if pathlib.Path(rest).exists() else None
        elif leaf.role is Role.ANSWERS and kind == "label":
            yield leaf.value


def _digest(parts: dict) -> str:
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
