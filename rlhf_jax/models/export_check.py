"""Whether an exported directory gives the numbers of the model it was made from."""

import dataclasses
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlhf_jax.errors import InputError
from rlhf_jax.models.config import TrunkConfig
from rlhf_jax.models.pretrained import load_pretrained, model_of
from rlhf_jax.models.weights import numpy_dtype

__all__ = ["check_export"]

ROWS, LENGTH = 2, 24  # of the tokens that are compared
TOLERANCE = 1e-4  # of the largest number


def check_export(
    directory: str | pathlib.Path,
    config: TrunkConfig,
    params: dict,
    *,
    dtype: str | None = None,
) -> dict[str, float]:
    """Reads an exported directory again and compares logits, or scores, on some tokens.

    Args:
      directory: as `save_pretrained` wrote it.
      config: of the trunk that was exported.
      params: of the model that was exported.
      dtype: of the file; None: that of the parameters.

    Returns:
      Largest difference over the largest number: "read again", against the parameters
      rounded to the dtype; "rounded", what that changed.

    Raises:
      InputError: the first is above 1e-4.
    """
    kind = "scalar" if "head" in params else "lm"
    tokens = _tokens(config)
    exact = _numbers(kind, config, params, tokens)
    cast = lambda leaf: jnp.asarray(leaf).astype(  # noqa: E731
        leaf.dtype if dtype is None else numpy_dtype(dtype)
    )
    rounded = jax.tree.map(lambda leaf: cast(leaf).astype(jnp.float32), params)
    expected = _numbers(kind, config, rounded, tokens)
    again = load_pretrained(directory)
    found = _numbers(again.kind, again.config, again.params, tokens)
    gap = _gap(found, expected)
    if not gap <= TOLERANCE:
        raise InputError(
            f"{directory}: read again, its numbers differ by {gap:.1e} of the largest, "
            f"expected at most {TOLERANCE:.0e}"
        )
    return {"read again": gap, "rounded": _gap(expected, exact)}


def _tokens(config: TrunkConfig) -> np.ndarray:
    """Ids from the whole vocabulary, the same for every model of its size."""
    length = min(LENGTH, config.context_length)
    rng = np.random.default_rng(0)
    return rng.integers(0, config.vocab_size, (ROWS, length), dtype=np.int32)


def _numbers(kind: str, config: TrunkConfig, params: Any, tokens) -> np.ndarray:
    """Logits of every token, or the score of each row."""
    exact = dataclasses.replace(config, dtype="float32", residual_dropout=0.0)
    model = model_of(kind, exact)
    out = jax.jit(lambda p, t: model.apply({"params": p}, t))(params, tokens)
    return np.asarray(out[:, -1] if kind == "scalar" else out)


def _gap(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-30))
