"""What a stage is known by: a hash over all that decides its result.

Its config, the files that it names and the stages that it starts from. A stage whose
hash is that of a finished directory is done.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import xxhash

from rlhf_jax.data.readers import named
from rlhf_jax.pipeline.experiment import Experiment, kind_of, references
from rlhf_jax.schema import resolved_json

__all__ = ["content_hash", "content_hashes", "file_hash", "files_of"]


def content_hashes(experiment: Experiment) -> dict[str, str]:
    """stage name -> content hash, of a whole experiment."""
    hashes: dict[str, str] = {}
    for name, config in experiment.stages.items():
        hashes[name] = content_hash(config, hashes)
    return hashes


def content_hash(config: Any, hashes: dict[str, str], *, answers: bool = True) -> str:
    """SHA-256 over kind, config, files named and stages referred to.

    Args:
      config: of the stage.
      hashes: content hashes of the stages before it.
      answers: also over the files of people's answers (`"file:PATH"`).
    """
    parts = {
        "kind": kind_of(config),
        "config": json.loads(resolved_json(config)),
        "stages": {r: hashes.get(r.split("/")[0]) for r in references(config)},
        "files": {
            text: file_hash(path) for text, path in sorted(files_of(config).items())
        },
    }
    if answers and (asked := sorted(_answers(config))):
        there = {name: pathlib.Path(name).exists() for name in asked}
        parts["answers"] = {n: file_hash(n) if there[n] else None for n in asked}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _strings(value: Any) -> Iterator[str]:
    """Every string in a config."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = [getattr(value, f.name) for f in dataclasses.fields(value)]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, str):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _strings(item)


def files_of(config: Any) -> dict[str, str]:
    """Every string that names something that exists -> its path.

    It may be the path itself, or `"PATH#FORMAT"` (see `data.readers`).
    """
    found = {}
    for text in _strings(config):
        for path in (text, named(text)[0]):
            if path and pathlib.Path(path).exists():
                found[text] = path
                break
    return found


def _answers(config: Any) -> set[str]:
    """The files of people's answers that a config names, as `"file:PATH"`."""
    texts = (text.partition("file:") for text in _strings(config))
    return {path for head, colon, path in texts if colon and not head and path}


def file_hash(path: str) -> str:
    """xxh3-128 of a file, or of the names and contents below a directory."""
    root = pathlib.Path(path)
    digest = xxhash.xxh3_128()
    for file in [root] if root.is_file() else sorted(root.rglob("*")):
        if file.is_file():
            digest.update(str(file.relative_to(root)).encode())
            with file.open("rb") as opened:
                while block := opened.read(1 << 20):
                    digest.update(block)
    return digest.hexdigest()
