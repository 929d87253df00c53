"""A ranking as one row: its prompt, and its responses one behind the other.

Padded to [K, R], a ranking of K short answers and one long one is mostly filler. In one
row padding is paid once per ranking and the prompt is there once; the responses are
told apart by segments, and each sees the prompt and itself alone (`common` of
`models.Trunk`).
"""

import dataclasses

import numpy as np
from jaxtyping import Int64

from rlhf_jax.data.batches import Batch, RankingRows


@dataclasses.dataclass(frozen=True)
class PackedRankingRows:
    """Rankings, each in one row.

    Args:
      rows: the rankings.
      length: T, tokens of a row.
    """

    rows: RankingRows
    length: int

    @property
    def lengths(self) -> Int64[np.ndarray, " n"]:
        """Tokens of each ranking: of its prompt and of all its responses."""
        responses = np.diff(self.rows.responses.offsets[self.rows.first])
        return self.rows.prompts.lengths + responses

    def __len__(self) -> int:
        return len(self.rows)

    def narrowed(self, shape: tuple[int]) -> "PackedRankingRows":
        """The same rankings in batches of another length (T,)."""
        return dataclasses.replace(self, length=shape[0])

    def batch(self, rows: Int64[np.ndarray, " B"]) -> Batch:
        """See `ranking_stream` for the keys."""
        prompts, responses = self.rows.prompts, self.rows.responses
        there, row = rows[:, None] >= 0, np.maximum(rows, 0)
        first = self.rows.first
        asked = np.where(there, prompts.lengths[row][:, None], 0)
        begin = responses.offsets[first[row]][:, None]
        said = np.where(there, responses.offsets[first[row + 1]][:, None] - begin, 0)
        place = np.arange(self.length)[None]
        common = place < asked
        valid = place < asked + said
        behind = valid & ~common
        tokens = np.full(valid.shape, self.rows.pad, np.int32)
        start = prompts.offsets[row][:, None]
        tokens[common] = prompts.values[(start + place)[common]]
        tokens[behind] = responses.values[(begin + place - asked)[behind]]
        slots, present = self.rows.slots(rows, self.rows.shape[1])
        last = responses.offsets[np.where(present, slots, 0) + 1] - 1
        ends = np.where(present, asked + last - begin, 0)
        after = present[..., None] & (place[:, None] > ends[..., None])  # [B K T]
        return {
            "tokens": tokens,
            "valid": valid,
            "common": common,
            "segments": after.sum(axis=1, dtype=np.int32),
            "ends": ends.astype(np.int32),
            **self.rows.ranked(rows, slots, present),
        }
