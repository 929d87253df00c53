"""A model with its parameters and its tokenizer, as the evaluations take it."""

import dataclasses
import os
from collections.abc import Callable
from typing import Any

from rlhf_jax.data import load_tokenizer
from rlhf_jax.models import load_pretrained

__all__ = ["Checkpoint", "Load", "load_checkpoint"]


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What was read.

    Attributes:
      model: a `LanguageModel` or a `ScalarModel`.
      params: its parameters.
      tokenizer: text to ids and back.
    """

    model: Any
    params: dict
    tokenizer: Any


# name -> something with the attributes of a `Checkpoint`
Load = Callable[[Any], Any]


def load_checkpoint(name: str | os.PathLike) -> Checkpoint:
    """Reads a transformers-compatible directory or a hub name.

    Raises:
      InputError: nothing there, or not a model; as `load_pretrained` says.
    """
    found = load_pretrained(name)
    return Checkpoint(found.model, found.params, load_tokenizer(found.path))
