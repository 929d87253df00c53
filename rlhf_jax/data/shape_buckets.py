"""Rows of similar size share a batch, so that little of it is padding.

A batch is as wide as its widest row. Where most rankings have K = 2 and a few K = 9,
or most prompts are short and a few are long, batches drawn at random are mostly filler.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Int64

from rlhf_jax.data.account import Account
from rlhf_jax.data.batches import Batch, PromptRows, RankingRows
from rlhf_jax.data.packed_rankings import PackedRankingRows
from rlhf_jax.data.streams import check_shard, epoch_order, filled, sharded
from rlhf_jax.errors import InputError

__all__ = ["ShapeBuckets"]


@dataclass(frozen=True)
class ShapeBuckets:
    """Shuffled batches of rows, each of the shape of its rows' bucket.

    A bucket's last rows of an epoch, too few for a batch, join the next wider
    bucket. So an epoch has exactly as many batches as without buckets, all full but
    one, and a row weighs what it weighs there: 1/B of its update, whatever its size.

    A jitted step compiles once per bucket that has rows. Which rows are in
    batch i is a function of (seed, i) alone.

    Args:
      rows: rankings or prompts.
      shapes: of the buckets' batches; each holds whatever fits the one before it.
      assigned: the bucket of each row.
      batch_size, seed, name, last, shard, account: as in `RowStream`.

    Raises:
      InputError: not enough rows for a batch.
    """

    rows: RankingRows | PackedRankingRows | PromptRows
    shapes: Sequence[tuple[int, ...]]
    assigned: Int64[np.ndarray, " n"]
    batch_size: int
    seed: int = 0
    name: str = "rows"
    last: Literal["pad", "drop"] = "pad"
    shard: tuple[int, int] = (0, 1)
    account: Account = field(default_factory=Account)

    def __post_init__(self):
        check_shard(self.batch_size, self.shard)
        if not self._slots:
            raise InputError(
                f"{self.name}: expected enough rows for a batch of {self.batch_size}, "
                f"got {len(self.rows)} ({self.account})"
            )

    def _rest(self, carried: int) -> bool:
        """Whether the rows that fill no batch make one."""
        return carried > 0 and self.last == "pad"

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def accounts(self) -> tuple[Account, ...]:
        """The one account."""
        return (self.account,)

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one pass over the rows."""
        return len(self._slots)

    @functools.cached_property
    def _buckets(self) -> list[tuple[tuple[int, ...], Int64[np.ndarray, " m"]]]:
        """(shape, its rows) of every bucket that has some."""
        members = [np.flatnonzero(self.assigned == b) for b in range(len(self.shapes))]
        return [
            (shape, rows)
            for shape, rows in zip(self.shapes, members, strict=True)
            if len(rows)
        ]

    @functools.cached_property
    def _slots(self) -> list[tuple[int, int]]:
        """(bucket, which batch of it) for every batch of an epoch."""
        slots, carried, last = [], 0, len(self._buckets) - 1
        for b, (_, rows) in enumerate(self._buckets):
            whole, carried = divmod(carried + len(rows), self.batch_size)
            slots += [
                (b, i) for i in range(whole + (b == last and self._rest(carried)))
            ]
        return slots

    def _epoch(self, epoch: int) -> list[Int64[np.ndarray, " m"]]:
        """The rows of each bucket in this epoch's order, after what is carried."""
        placed, carried, last = [], np.zeros(0, np.int64), len(self._buckets) - 1
        for b, (_, rows) in enumerate(self._buckets):
            order = epoch_order(self.seed, epoch, len(rows), f"{self.name}/{b}")
            rows = np.concatenate([carried, rows[order]])
            carried = len(rows) % self.batch_size
            if b == last and self._rest(carried):
                carried = 0
            placed.append(rows[: len(rows) - carried])
            carried = rows[len(rows) - carried :]
        return placed

    def plan(self, step: int) -> tuple[tuple[int, ...], Int64[np.ndarray, " B"]]:
        """The shape of a batch and its row numbers over all hosts, -1 for absent."""
        epoch, slot = divmod(step, self.steps_per_epoch)
        turn = epoch_order(self.seed, epoch, len(self._slots), f"{self.name}/batches")
        bucket, i = self._slots[turn[slot]]
        rows = self._epoch(epoch)[bucket]
        chosen = rows[i * self.batch_size : (i + 1) * self.batch_size]
        return self._buckets[bucket][0], filled(chosen, self.batch_size)

    def batch(self, step: int) -> Batch:
        """Batch number `step`; see `ranking_stream` for its keys."""
        shape, rows = self.plan(step)
        return self.rows.narrowed(shape).batch(sharded(rows, self.shard))
