"""What vouches for a model directory, wherever it is read.

`model.json` holds a hash of itself, the hash of each file of the tokenizer and the
fingerprint of the parameters, which their checkpoint holds too. So a changed setting,
another tokenizer or another model's parameters are seen by whoever loads the model,
not only by the run that made it.
"""

import functools
import hashlib
import json
import logging
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlhf_jax.checkpoints.hashes import checksum
from rlhf_jax.errors import InputError
from rlhf_jax.storage import read_json

__all__ = [
    "fingerprint",
    "require_same_params",
    "require_vouched",
    "require_whole",
    "sealed",
    "vouched",
]

logger = logging.getLogger("rlhf_jax.registry")

_REMEDY = "put back what was there, or make the model again"


def fingerprint(params: Any) -> str:
    """A name for parameters: other parameters have, almost surely, another one.

    The sum of the bits of each leaf, modulo 2^32, so that it is the same however the
    leaves lie on devices and nothing is gathered. With several processes all must call
    it.

    Returns:
      16 hexadecimal digits.
    """
    sums = _sums(params)
    leaves, _ = jax.tree_util.tree_flatten_with_path(sums)
    named = {jax.tree_util.keystr(path): int(value) for path, value in leaves}
    text = json.dumps(named, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@jax.jit
def _sums(params: Any) -> Any:
    def bits(leaf: Any) -> Any:
        kind = np.dtype(f"uint{8 * leaf.dtype.itemsize}")
        words = jax.lax.bitcast_convert_type(leaf, kind)
        return jnp.sum(words.astype(np.uint32), dtype=np.uint32)

    return jax.tree.map(bits, params)


def sealed(
    description: dict[str, Any], tokenizer: pathlib.Path, name: str
) -> dict[str, Any]:
    """The description with what vouches for it and for the files beside it.

    Args:
      description: what `model.json` tells.
      tokenizer: directory of the tokenizer, written.
      name: `fingerprint` of the parameters.
    """
    whole = {**description, "tokenizer": _hashes(tokenizer), "params": name}
    return vouched(whole)


def vouched(text: dict[str, Any]) -> dict[str, Any]:
    """JSON that holds a hash of itself."""
    text = json.loads(json.dumps(text))  # as it will be read
    return {**text, "checksum": _checksum(text)}


def _hashes(folder: pathlib.Path) -> dict[str, str]:
    names = sorted(path.name for path in folder.iterdir() if path.name[0] != ".")
    return {name: checksum(folder / name) for name in names}


def _checksum(text: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(text, sort_keys=True).encode()).hexdigest()


def require_whole(marker: pathlib.Path, text: dict[str, Any]) -> None:
    """Refuses a model whose description or tokenizer is not as it was saved.

    A description without a seal, as older versions and people write it, is read, and
    said once.

    Args:
      marker: `model.json`.
      text: what it holds.

    Raises:
      InputError: names the file.
    """
    known = {"kind", "config", "meta", "adapter", "tokenizer", "params", "checksum"}
    if unknown := sorted(set(text) - known):
        raise InputError(f"{marker}: unknown key {unknown[0]!r}")
    if not require_vouched(marker, text):
        return
    folder = marker.parent / "tokenizer"
    try:
        found = _hashes(folder)
    except OSError as error:
        raise InputError(f"{error.filename or folder}: {error.strerror}") from error
    for name in sorted({*found, *text["tokenizer"]}):
        if found.get(name) != text["tokenizer"].get(name):
            what = "absent" if name not in found else "not as it was saved"
            raise InputError(f"{folder / name}: {what}; {_REMEDY}")


def require_vouched(marker: pathlib.Path, text: dict[str, Any]) -> bool:
    """Refuses JSON that is not as it was saved.

    Returns:
      Whether something vouches for it; what has no checksum is said once.

    Raises:
      InputError: its checksum is another.
    """
    if "checksum" not in text:
        _say_unsealed(str(marker))
        return False
    held = {key: value for key, value in text.items() if key != "checksum"}
    if _checksum(held) != text["checksum"]:
        raise InputError(
            f"{marker}: its bytes have changed since it was saved; {_REMEDY} "
            '(or take "checksum" out of it, if the change is meant)'
        )
    return True


@functools.cache
def _say_unsealed(marker: str) -> None:
    logger.warning("%s: has no checksum: nothing vouches for what it says", marker)


def require_same_params(marker: pathlib.Path, kept: dict[str, Any]) -> None:
    """Refuses parameters that were saved with another description.

    Args:
      marker: `model.json`, whole.
      kept: meta of the checkpoint of the parameters.

    Raises:
      InputError: they are another model's.
    """
    told = read_json(marker).get("params")
    if told is not None and kept.get("params") != told:
        raise InputError(
            f"{marker.parent / 'params'}: the parameters of another model than "
            f"{marker.name} describes; {_REMEDY}"
        )
