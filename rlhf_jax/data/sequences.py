"""Demonstrations and running text as batches: padded, packed, or in full windows.

`batch(rows)` as in `batches`: any row numbers, -1 for an absent row.
"""

import array
import functools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int32, Int64, Shaped

from rlhf_jax.data.batches import Batch
from rlhf_jax.data.encoding import SequenceTokens
from rlhf_jax.data.ragged import Ragged, RaggedWriter

__all__ = ["PackedRows", "SequenceRows", "WindowRows"]


@dataclass(frozen=True)
class SequenceRows:
    """One demonstration per row, padded on the right.

    Args:
      tokens: the rows.
      starts: first trained token of each row.
      index: place of each row among the records that were read.
      length: T.
      pad: the filler's id.
      weights: of each token, as `tokens`, the bits of its float32; None: 1 from the
        first trained token on.
    """

    tokens: Ragged
    starts: Int64[np.ndarray, " n"]
    index: Int64[np.ndarray, " n"]
    length: int
    pad: int
    weights: Ragged | None = None

    @classmethod
    def collect(
        cls, encoded: Iterable[SequenceTokens], length: int, pad: int, path=None
    ) -> "SequenceRows":
        """Encoded rows, held in memory or, with `path`, on disk.

        Either all rows have weights or none has.
        """
        writer, beside = RaggedWriter(path), None
        starts, index = array.array("q"), array.array("q")
        for row in encoded:
            writer.append(row.tokens)
            starts.append(row.start)
            index.append(row.index)
            if row.weights is not None:
                beside = beside or RaggedWriter(path and f"{path}.weights")
                beside.append(np.asarray(row.weights, np.float32).view(np.int32))
        tokens, weights = writer.finish(), beside and beside.finish()
        columns = (np.array(column, np.int64) for column in (starts, index))
        return cls(tokens, *columns, length, pad, weights)

    def __len__(self) -> int:
        return len(self.tokens)

    @functools.cached_property
    def graded(self) -> bool:
        """Whether some tokens count more than others that are trained."""
        if self.weights is None:
            return False
        found = self.weights.values.view(np.float32)
        return not np.isin(found, (0.0, 1.0)).all()

    def masked(self, trained: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
        """The bits of weights as a mask: boolean, or float32 where `graded`."""
        weights = trained.view(np.float32)
        return weights if self.graded else weights != 0

    def batch(self, rows: Int64[np.ndarray, " B"]) -> Batch:
        """tokens, valid, mask [B, T] and row [B]."""
        tokens, valid = self.tokens.padded(rows, self.length, self.pad)
        if self.weights is not None:
            mask = self.masked(self.weights.padded(rows, self.length, 0)[0])
            return {"tokens": tokens, "valid": valid, "mask": mask, "row": rows}
        starts = np.where(rows >= 0, self.starts[rows], 0) if len(self) else rows
        mask = valid & (np.arange(self.length)[None, :] >= starts[:, None])
        return {"tokens": tokens, "valid": valid, "mask": mask, "row": rows}


@dataclass(frozen=True)
class PackedRows:
    """Several demonstrations per row, told apart by segment ids and positions.

    Segments count 1, 2, ... in a row and are 0 on filler; positions count from 0 in
    each segment. A token must attend to its own segment alone.

    Args:
      sequences: the demonstrations.
      bins: which demonstrations share a row (`packing.pack`).
    """

    sequences: SequenceRows
    bins: Ragged

    def __len__(self) -> int:
        return len(self.bins)

    def batch(self, rows: Int64[np.ndarray, " B"]) -> Batch:
        """tokens, valid, mask, segments, positions [B, T] and row [B]."""
        width = int(self.bins.lengths.max(initial=1))
        members, present = self.bins.padded(rows, width, -1)
        chosen = members[present]
        number = np.nonzero(present)[1] + 1
        ragged = self.sequences.tokens
        lengths = ragged.lengths[chosen]
        per_row = np.zeros(present.shape, np.int64)
        per_row[present] = lengths
        column = np.arange(self.sequences.length)
        valid = column[None, :] < per_row.sum(axis=1)[:, None]
        # Flat, member after member: just the order in which `valid` is filled.
        within = np.arange(lengths.sum()) - np.repeat(
            np.cumsum(lengths) - lengths, lengths
        )
        source = within + np.repeat(ragged.offsets[chosen], lengths)
        if self.sequences.weights is None:
            trained = within >= np.repeat(self.sequences.starts[chosen], lengths)
        else:
            trained = self.sequences.masked(self.sequences.weights.values[source])
        pad = self.sequences.pad
        return {
            "tokens": _placed(valid, ragged.values[source], pad, np.int32),
            "valid": valid,
            "mask": _placed(valid, trained, 0, trained.dtype),
            "segments": _placed(valid, np.repeat(number, lengths), 0, np.int32),
            "positions": _placed(valid, within, 0, np.int32),
            "row": rows,
        }


def _placed(valid: Bool[np.ndarray, "B T"], values, fill, dtype) -> np.ndarray:
    """Flat values put where `valid` is True, `fill` elsewhere."""
    out = np.full(valid.shape, fill, dtype)
    out[valid] = values
    return out


@dataclass(frozen=True)
class WindowRows:
    """Running text as full windows of T tokens, each token predicted exactly once.

    Window i holds the tokens i(T-1) .. i(T-1)+T-1 of the joined documents: it repeats
    the last token of the window before, so that its second token, too, is predicted
    from something. Only the last window may be padded.
    """

    values: Int32[np.ndarray, " total"]
    length: int
    pad: int

    @classmethod
    def collect(
        cls, encoded: Iterable[SequenceTokens], length: int, pad: int, path=None
    ) -> "WindowRows":
        """Documents joined, in memory or, with `path`, on disk."""
        writer = RaggedWriter(path)
        for document in encoded:
            writer.append(document.tokens)
        return cls(writer.finish().values, length, pad)

    def __len__(self) -> int:
        return -(-max(0, len(self.values) - 1) // (self.length - 1))

    def batch(self, rows: Int64[np.ndarray, " B"]) -> Batch:
        """tokens, valid, mask [B, T] and row [B]."""
        source = rows[:, None] * (self.length - 1) + np.arange(self.length)[None, :]
        valid = (rows >= 0)[:, None] & (source < len(self.values))
        picked = self.values[np.where(valid, source, 0)] if len(self) else source
        tokens = np.where(valid, picked, self.pad).astype(np.int32)
        mask = valid & (np.arange(self.length) > 0)[None, :]
        return {"tokens": tokens, "valid": valid, "mask": mask, "row": rows}
