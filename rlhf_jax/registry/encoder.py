"""The encoder reward model as a `Reward`: score = w · (BERT(x) ⊕ BERT(y)) + b.

It has a tokenizer of its own, so it is asked with texts, whatever the policy's tokens
are. Each text is read by itself, as in training: see `data.apart`. How many tokens of
it is no matter of the policy either: as many as in training, else the context.
"""

import collections
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from rlhf_jax.data import load_tokenizer
from rlhf_jax.data.apart import enclosed
from rlhf_jax.errors import InputError
from rlhf_jax.models import (
    EncoderConfig,
    EncoderRewardModel,
    init_params,
    load_encoder,
)
from rlhf_jax.parallel import (
    CompiledFunction,
    compile_function,
    mesh_of,
    to_host,
    whole_rows,
)
from rlhf_jax.registry.loaded import LoadedModel

# Texts are padded to a multiple of this: one compiled program per multiple.
WIDTH = 32


@dataclasses.dataclass(frozen=True, eq=False)
class EncoderReward:
    """An encoder of prompt and response as a `Reward`.

    Attributes:
      loaded: `EncoderRewardModel`, params and tokenizer; `max_prompt` and
        `max_response` of its meta are the tokens that it reads.
      batch_size: rows forwarded together.
      name: what people call it.
      counts: "scored", "prompts cut", "responses cut".
    """

    loaded: LoadedModel
    batch_size: int = 64
    name: str = "encoder"
    counts: collections.Counter = dataclasses.field(default_factory=collections.Counter)

    def score(
        self,
        prompts: Sequence[str],
        responses: Sequence[str],
        records: Sequence[Mapping[str, Any]] | None = None,
    ) -> Float[np.ndarray, " N"]:
        """See `registry.Reward.score`."""
        del records
        asked = self._ids("prompts", prompts, "max_prompt")
        said = self._ids("responses", responses, "max_response")
        found = np.zeros(len(asked), np.float32)
        sizes = np.array([(len(p), len(r)) for p, r in zip(asked, said, strict=True)])
        order = np.lexsort(sizes.reshape(-1, 2).T[::-1])  # of one length together
        count = whole_rows(self.batch_size, mesh_of(self.loaded.params))
        for start in range(0, len(order), count):
            some = order[start : start + count]
            arrays = [
                *self._arrays([asked[i] for i in some], count),
                *(r[:, None] for r in self._arrays([said[i] for i in some], count)),
            ]
            scores = _scores(self.loaded.model)(self.loaded.params, arrays)
            found[some] = to_host(scores)[: len(some)]
        self.counts["scored"] += len(found)
        return found

    def _ids(self, what: str, texts: Sequence[str], limit: str) -> list[list[int]]:
        context = self.loaded.model.config.context_length
        most = min(self.loaded.meta.get(limit) or context, context)
        rows = enclosed(self.loaded.tokenizer, texts)
        self.counts[f"{what} cut"] += sum(len(row) > most for row in rows)
        return [row[:most] for row in rows]

    def _arrays(
        self, rows: list[list[int]], count: int
    ) -> tuple[np.ndarray, np.ndarray]:
        context = self.loaded.model.config.context_length
        width = min(-(-max(map(len, rows)) // WIDTH) * WIDTH, context)
        pad = self.loaded.tokenizer.pad_token
        return padded_rows(rows, count, width, pad)


@functools.cache
def _scores(model: Any) -> CompiledFunction:
    """`(params, arrays) -> scores` [B], where the params lie."""

    def scores(params: Any, arrays: list) -> Float[Array, " B"]:
        return model.apply({"params": params}, *arrays)[:, 0]

    return compile_function(scores)


def fresh_encoder(config: EncoderConfig, tokenizer: Any, key: Array) -> LoadedModel:
    """An encoder reward model with fresh params and the tokenizer's vocabulary.

    Args:
      config: its shape; its `vocab_size` is replaced.
      tokenizer: see `rlhf_jax.data`.
      key: of the params.
    """
    config = dataclasses.replace(config, vocab_size=tokenizer.vocab_size)
    model = EncoderRewardModel(config)
    params = jax.jit(lambda key: init_params(model, key))(key)
    return LoadedModel(model, params, tokenizer, {})


def load_bert(name: Any, key: Array, **changes: Any) -> LoadedModel:
    """A BERT in transformers' layout under a fresh head.

    Args:
      name: a directory, or a name on the hub.
      key: of the head.
      **changes: fields of `EncoderConfig`, such as pooling="mean".

    Raises:
      InputError: see `models.load_encoder`; or its tokenizer is not there, or has more
        tokens than the encoder.
    """
    found = load_encoder(name, key, **changes)
    tokenizer = load_tokenizer(found.path)
    if tokenizer.vocab_size > found.config.vocab_size:
        raise InputError(
            f"{found.path}: the tokenizer has {tokenizer.vocab_size} tokens, expected "
            f"at most {found.config.vocab_size}, the encoder's vocab_size"
        )
    meta = {"source": str(name)}
    return LoadedModel(EncoderRewardModel(found.config), found.params, tokenizer, meta)


def padded_rows(
    rows: Sequence[Sequence[int]], count: int, width: int, pad: int
) -> tuple[np.ndarray, np.ndarray]:
    """(tokens, valid) [count, width]: rows padded on the right, and filler rows."""
    tokens = np.full((count, width), pad, np.int32)
    valid = np.zeros((count, width), bool)
    valid[:, 0] = True  # a row that is only filler needs something to attend to
    for i, row in enumerate(rows):
        tokens[i, : len(row)], valid[i, : len(row)] = row, True
    return tokens, valid
