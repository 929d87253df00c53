"""The responses of a ranking one behind the other: padding is paid once, not K times.

Padded to [K, R], a ranking of K short answers and one long one is mostly filler. Here
its responses share one row of T tokens, told apart by segments; each still sees the
prompt and itself alone (`models.packed_prefix_values`).
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64

from rlhf_jax.data.batches import Batch, RankingRows
from rlhf_jax.data.ragged import Ragged
from rlhf_jax.errors import InputError

__all__ = ["PackedRankingRows"]


@dataclasses.dataclass(frozen=True)
class PackedRankingRows:
    """Rankings whose responses share a row.

    Args:
      rows: the rankings.
      shape: (P, T): tokens of a prompt, and of all responses of a ranking.
    """

    rows: RankingRows
    shape: tuple[int, int]

    @property
    def first(self) -> Int64[np.ndarray, " n_plus_1"]:
        """As in `RankingRows`."""
        return self.rows.first

    @property
    def lengths(self) -> Int64[np.ndarray, "n 2"]:
        """Tokens of the prompt, and of all responses together, of each ranking."""
        together = np.diff(self.rows.responses.offsets[self.first])
        return np.stack([self.rows.prompts.lengths, together], axis=1)

    def __len__(self) -> int:
        return len(self.rows)

    def narrowed(self, shape: tuple[int, int]) -> "PackedRankingRows":
        """The same rankings in batches of another shape (P, T)."""
        return dataclasses.replace(self, shape=shape)

    def buckets(
        self, shapes: Sequence[tuple[int, int]]
    ) -> tuple[list[tuple[int, int]], Int64[np.ndarray, " n"]]:
        """The given shapes and, behind them, this one; and the bucket of each ranking.

        Raises:
          InputError: a shape is smaller than the one before it.
        """
        edges = np.asarray([*shapes, self.shape]).reshape(-1, 2)
        if np.any(np.diff(edges[:-1], axis=0) < 0):
            raise InputError(
                "packed: expected rising (prompt, responses) tokens, "
                f"got {list(shapes)}"
            )
        edges = np.unique(np.minimum(edges, self.shape), axis=0)
        fits = np.all(self.lengths[:, None] <= edges[None], axis=-1)
        return [tuple(edge) for edge in edges.tolist()], np.argmax(fits, axis=1)

    def batch(self, rows: Int64[np.ndarray, " B"]) -> Batch:
        """See `ranking_stream` for the keys."""
        length, together = self.shape
        _, k, _ = self.rows.shape
        prompts, prompt_valid = self.rows.prompts.padded(rows, length, self.rows.pad)
        source = self.rows.responses
        joined = Ragged(source.values, source.offsets[self.first])
        responses, response_valid = joined.padded(rows, together, self.rows.pad)
        slots, present = self.rows.slots(rows, k)
        ends = source.offsets[np.where(present, slots, 0) + 1] - 1
        ends = np.where(present, ends - joined.offsets[np.maximum(rows, 0)][:, None], 0)
        starts = np.zeros(responses.shape, np.int32)
        after = present & (ends + 1 < together)
        np.add.at(starts, (np.nonzero(after)[0], ends[after] + 1), 1)
        return {
            "prompts": prompts,
            "prompt_valid": prompt_valid,
            "responses": responses,
            "response_valid": response_valid,
            "segments": np.cumsum(starts, axis=1, dtype=np.int32),
            "ends": ends.astype(np.int32),
            **self.rows.ranked(rows, slots, present),
        }
