"""Rows in memory or on disk -> one batch: a dict of arrays of fixed shape.

Each class holds encoded rows and answers `batch(rows)` for any row numbers, -1 being
an absent row: it is all filler, and every mask of it is False. Nothing here knows
about order, epochs or hosts; that is `streams`.
"""

import array
import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Int, Int32, Int64

from rlhf_jax.data.encoding import PromptTokens, RankedTokens
from rlhf_jax.data.ragged import Ragged, RaggedWriter
from rlhf_jax.errors import InputError

Batch = dict[str, np.ndarray]


class Rows(Protocol):
    """Numbered rows that become batches."""

    def __len__(self) -> int:
        """How many rows there are."""

    def batch(self, rows: Int64[np.ndarray, " B"]) -> Batch:
        """The batch of these rows, in this order."""


@dataclass(frozen=True)
class PromptRows:
    """One prompt per row, padded on the left: generation goes on at the right edge."""

    tokens: Ragged
    index: Int64[np.ndarray, " n"]
    length: int
    pad: int

    @classmethod
    def collect(
        cls, encoded: Iterable[PromptTokens], length: int, pad: int, path=None
    ) -> "PromptRows":
        """Encoded prompts, held in memory or, with `path`, on disk."""
        writer, index = RaggedWriter(path), array.array("q")
        for row in encoded:
            writer.append(row.tokens)
            index.append(row.index)
        return cls(writer.finish(), np.array(index, np.int64), length, pad)

    def __len__(self) -> int:
        return len(self.tokens)

    def narrowed(self, shape: tuple[int]) -> "PromptRows":
        """The same rows in batches of another length (P,)."""
        return dataclasses.replace(self, length=shape[0])

    def batch(self, rows: Int64[np.ndarray, " B"]) -> Batch:
        """prompts, valid [B, P] and row [B]."""
        prompts, valid = self.tokens.padded(rows, self.length, self.pad, left=True)
        return {"prompts": prompts, "valid": valid, "row": rows}


@dataclass(frozen=True)
class RankingRows:
    """One prompt and its K responses per row; fewer than K leave `present` False.

    Args:
      prompts: n prompts.
      responses: the responses of all rows, one after the other.
      ranks: ranks of all responses.
      first: the first response of row i is `first[i]`, the last `first[i + 1] - 1`.
      index: place of each row among the records that were read.
      shape: (P, K, R).
      pad: the filler's id.
    """

    prompts: Ragged
    responses: Ragged
    ranks: Int32[np.ndarray, " m"]
    first: Int64[np.ndarray, " n_plus_1"]
    index: Int64[np.ndarray, " n"]
    shape: tuple[int, int, int]
    pad: int

    @classmethod
    def collect(
        cls,
        encoded: Iterable[RankedTokens],
        shape: tuple[int, int | None, int],
        pad: int,
        path=None,
    ) -> "RankingRows":
        """Encoded rankings; a K of None becomes the largest K that occurs."""
        prompts = RaggedWriter()
        responses = RaggedWriter(path)
        ranks, counts, index = (array.array(code) for code in "iqq")
        for row in encoded:
            prompts.append(row.prompt)
            for response in row.responses:
                responses.append(response)
            ranks.extend(row.ranks)
            counts.append(len(row.ranks))
            index.append(row.index)
        largest = max(counts, default=2)
        k = shape[1] or largest
        if k < largest:
            at = counts.index(largest)
            raise InputError(f"max_k: ranking {index[at]} has K = {largest}, over {k}")
        first = np.concatenate([[0], np.cumsum(np.array(counts, np.int64))]).astype(
            np.int64
        )
        return cls(
            prompts.finish(),
            responses.finish(),
            np.array(ranks, np.int32),
            first,
            np.array(index, np.int64),
            (shape[0], k, shape[2]),
            pad,
        )

    def __len__(self) -> int:
        return len(self.prompts)

    def batch(self, rows: Int64[np.ndarray, " B"]) -> Batch:
        """See `ranking_stream` for the keys."""
        p, k, r = self.shape
        prompts, prompt_valid = self.prompts.padded(rows, p, self.pad)
        slots, present = self.slots(rows, k)
        flat = np.where(present, slots, -1).reshape(-1)
        responses, response_valid = self.responses.padded(flat, r, self.pad)
        return {
            "prompts": prompts,
            "prompt_valid": prompt_valid,
            "responses": responses.reshape(len(rows), k, r),
            "response_valid": response_valid.reshape(len(rows), k, r),
            **self.ranked(rows, slots, present),
        }

    @property
    def counts(self) -> Int64[np.ndarray, " n"]:
        """K of each row."""
        return np.diff(self.first)

    def narrowed(self, shape: tuple[int, int, int]) -> "RankingRows":
        """The same rows in batches of another shape (P, K, R)."""
        return dataclasses.replace(self, shape=shape)

    def ranked(
        self,
        rows: Int64[np.ndarray, " B"],
        slots: Int64[np.ndarray, "B K"],
        present: Bool[np.ndarray, "B K"],
    ) -> Batch:
        """What a batch says about the ranks of its rows; arguments as of `slots`."""
        ranks = np.zeros(slots.shape, np.int32)
        ranks[present] = self.ranks[slots[present]]
        mask = _has_untied_pair(ranks, present)
        return {"ranks": ranks, "present": present, "mask": mask, "row": rows}

    def slots(
        self, rows: Int64[np.ndarray, " B"], k: int
    ) -> tuple[Int64[np.ndarray, "B K"], Bool[np.ndarray, "B K"]]:
        """The number of each response of each row, and whether there is one."""
        if len(self) == 0:
            return np.zeros((len(rows), k), np.int64), np.zeros((len(rows), k), bool)
        safe = np.maximum(rows, 0)
        slots = self.first[safe][:, None] + np.arange(k)[None, :]
        return slots, (rows >= 0)[:, None] & (slots < self.first[safe + 1][:, None])


def _has_untied_pair(
    ranks: Int[np.ndarray, "B K"], present: Bool[np.ndarray, "B K"]
) -> Bool[np.ndarray, " B"]:
    best = np.min(ranks, axis=1, where=present, initial=np.iinfo(np.int32).max)
    worst = np.max(ranks, axis=1, where=present, initial=0)
    return best < worst
