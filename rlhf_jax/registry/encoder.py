"""The encoder reward model as a `Reward`: score = w · (BERT(x) ⊕ BERT(y)) + b.

It has a tokenizer of its own, so it is asked with texts, whatever the policy's tokens
are. Each text is read as begin token ⊕ text ⊕ end token, cut at the end.
"""

import collections
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float

from rlhf_jax.registry.model_directory import LoadedModel

# Texts are padded to a multiple of this: one compiled program per multiple.
WIDTH = 32


@dataclasses.dataclass(frozen=True, eq=False)
class EncoderReward:
    """An encoder of prompt and response as a `Reward`.

    Attributes:
      loaded: `EncoderRewardModel`, params and tokenizer.
      max_prompt: tokens; None: what it was trained with, else the context.
      max_response: tokens; None: likewise.
      batch_size: rows forwarded together.
      name: what people call it.
      counts: "scored", "prompts cut", "responses cut".
    """

    loaded: LoadedModel
    max_prompt: int | None = None
    max_response: int | None = None
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
        asked = self._ids("prompts", prompts, self.max_prompt, "max_prompt")
        said = self._ids("responses", responses, self.max_response, "max_response")
        found = np.zeros(len(asked), np.float32)
        sizes = np.array([(len(p), len(r)) for p, r in zip(asked, said, strict=True)])
        order = np.lexsort(sizes.reshape(-1, 2).T[::-1])  # of one length together
        for start in range(0, len(order), self.batch_size):
            some = order[start : start + self.batch_size]
            arrays = [
                *self._arrays([asked[i] for i in some]),
                *(rows[:, None] for rows in self._arrays([said[i] for i in some])),
            ]
            scores = _scores(self.loaded.model, self.loaded.params, *arrays)
            found[some] = np.asarray(scores)[: len(some)]
        self.counts["scored"] += len(found)
        return found

    def _ids(
        self, what: str, texts: Sequence[str], limit: int | None, key: str
    ) -> list[list[int]]:
        context = self.loaded.model.config.context_length
        most = min(limit or self.loaded.meta.get(key) or context, context)
        rows = encoder_ids(self.loaded.tokenizer, texts)
        self.counts[f"{what} cut"] += sum(len(row) > most for row in rows)
        return [row[:most] for row in rows]

    def _arrays(self, rows: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
        context = self.loaded.model.config.context_length
        width = min(-(-max(map(len, rows)) // WIDTH) * WIDTH, context)
        pad = self.loaded.tokenizer.pad_token
        return padded_rows(rows, self.batch_size, width, pad)


@functools.partial(jax.jit, static_argnums=0)
def _scores(model: Any, params: Any, *arrays: Array) -> Float[Array, " B"]:
    return model.apply({"params": params}, *arrays)[:, 0]


def encoder_ids(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """begin token, if there is one, ⊕ text ⊕ end token, for each text."""
    begin = [] if tokenizer.begin_token is None else [tokenizer.begin_token]
    rows = tokenizer.encode_batch(list(texts))
    return [[*begin, *row, tokenizer.end_token] for row in rows]


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
