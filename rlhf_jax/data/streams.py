"""Which rows are in batch i: a pure function of (seed, i), on any number of hosts.

There is no iterator and no cursor. A run that resumes at step 1000 asks for batch
1000; two hosts ask for the same batch and take the halves. Each epoch visits every
row exactly once, in an order of its own.
"""

import functools
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
from jaxtyping import Int64

from rlhf_jax.data.account import Account
from rlhf_jax.data.batches import Batch, Rows
from rlhf_jax.data.sequences import SequenceRows
from rlhf_jax.errors import InputError

__all__ = [
    "BucketStream",
    "MixedStream",
    "RowStream",
    "Stream",
    "epoch_order",
    "sharded",
]


class Stream(Protocol):
    """Batches by number.

    Attributes:
      steps_per_epoch: batches that hold each row once.
      accounts: what became of the rows, one account for each kind of them.
    """

    steps_per_epoch: int
    accounts: tuple[Account, ...]

    def __len__(self) -> int:
        """Rows per epoch."""

    def batch(self, step: int) -> Batch:
        """Batch number `step` ≥ 0; the same at every call, in every process."""


@functools.lru_cache(maxsize=8)  # 8 bytes per row each
def epoch_order(seed: int, epoch: int, count: int, name: str) -> Int64[np.ndarray, "n"]:
    """A permutation of 0..count-1 that depends on its four arguments alone.

    The rows are sorted by 64 random bits each, drawn from Philox with the seed and the
    name as key and the epoch in the counter. The bits of Philox are fixed by its
    definition (Salmon et al. 2011), so the order outlives versions of numpy.

    >>> epoch_order(0, 0, 5, "x").tolist() == epoch_order(0, 1, 5, "x").tolist()
    False
    """
    key = [seed & (2**64 - 1), zlib.crc32(name.encode())]
    generator = np.random.Philox(key=key, counter=[0, 0, 0, epoch])
    order = np.argsort(generator.random_raw(count), kind="stable")
    order.setflags(write=False)
    return order


@dataclass(frozen=True)
class RowStream:
    """Shuffled batches of rows that all have one shape.

    Args:
      rows: the encoded rows.
      batch_size: B, over all hosts.
      seed: with the step, all that decides a batch.
      name: what the rows are; streams with different names shuffle differently.
      last: "pad" fills the last batch of an epoch with absent rows (`row` = -1, masks
        False); "drop" leaves its rows out of this epoch.
      shard: (host, hosts); this host's share of each batch.
      account: what became of the rows that were read.
    """

    rows: Rows
    batch_size: int
    seed: int = 0
    name: str = "rows"
    last: Literal["pad", "drop"] = "pad"
    shard: tuple[int, int] = (0, 1)
    account: Account = field(default_factory=Account)

    def __post_init__(self):
        check_shard(self.batch_size, self.shard)
        if self.steps_per_epoch == 0:
            raise InputError(
                f"{self.name}: expected enough rows for a batch of {self.batch_size}, "
                f"got {len(self.rows)} ({self.account})"
            )

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def accounts(self) -> tuple[Account, ...]:
        """The one account."""
        return (self.account,)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one pass over the rows."""
        whole, rest = divmod(len(self.rows), self.batch_size)
        return whole + (rest > 0 and self.last == "pad")

    def plan(self, step: int) -> Int64[np.ndarray, " B"]:
        """The row numbers of a batch over all hosts, -1 where a row is absent."""
        epoch, slot = divmod(step, self.steps_per_epoch)
        order = epoch_order(self.seed, epoch, len(self.rows), self.name)
        chosen = order[slot * self.batch_size : (slot + 1) * self.batch_size]
        return filled(chosen, self.batch_size)

    def batch(self, step: int) -> Batch:
        """This host's rows of batch `step`: a function of (seed, step) alone."""
        return self.rows.batch(sharded(self.plan(step), self.shard))


@dataclass(frozen=True)
class BucketStream:
    """Shuffled batches of sequences, each batch as wide as its bucket.

    Every batch holds rows of one bucket, so a jitted step compiles once per bucket and
    little is padded. An epoch shuffles the rows in each bucket, and then the batches.

    Args:
      rows: the demonstrations.
      assigned: the bucket of each row (`packing.bucket_of`).
      buckets: rising lengths T.
      batch_size, seed, name, shard, account: as in `RowStream`.
    """

    rows: SequenceRows
    assigned: Int64[np.ndarray, " n"]
    buckets: tuple[int, ...]
    batch_size: int
    seed: int = 0
    name: str = "rows"
    shard: tuple[int, int] = (0, 1)
    account: Account = field(default_factory=Account)

    def __post_init__(self):
        check_shard(self.batch_size, self.shard)
        if len(self.rows) == 0:
            raise InputError(f"{self.name}: expected rows, got none ({self.account})")

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def accounts(self) -> tuple[Account, ...]:
        """The one account."""
        return (self.account,)

    @functools.cached_property
    def _members(self) -> list[Int64[np.ndarray, " m"]]:
        return [np.flatnonzero(self.assigned == b) for b in range(len(self.buckets))]

    @functools.cached_property
    def _slots(self) -> list[tuple[int, int]]:
        """(bucket, which batch of it) for every batch of an epoch."""
        sizes = [-(-len(rows) // self.batch_size) for rows in self._members]
        return [(b, i) for b, size in enumerate(sizes) for i in range(size)]

    @property
    def steps_per_epoch(self) -> int:
        """Batches of all buckets in one pass over the rows."""
        return len(self._slots)

    def plan(self, step: int) -> tuple[int, Int64[np.ndarray, " B"]]:
        """The bucket of a batch and its row numbers over all hosts."""
        epoch, slot = divmod(step, self.steps_per_epoch)
        turn = epoch_order(self.seed, epoch, len(self._slots), f"{self.name}/batches")
        bucket, i = self._slots[turn[slot]]
        rows = self._members[bucket]
        order = epoch_order(self.seed, epoch, len(rows), f"{self.name}/{bucket}")
        chosen = rows[order[i * self.batch_size : (i + 1) * self.batch_size]]
        return bucket, filled(chosen, self.batch_size)

    def batch(self, step: int) -> Batch:
        """This host's rows of batch `step`, as wide as their bucket."""
        bucket, rows = self.plan(step)
        batch = self.rows.batch(sharded(rows, self.shard))
        width = self.buckets[bucket]
        return {k: v if v.ndim == 1 else v[:, :width] for k, v in batch.items()}


@dataclass(frozen=True)
class MixedStream:
    """Each batch holds rows of several streams, in fixed numbers.

    The numbers come from `mixed_sizes`. An epoch is one of the first stream; the
    others begin again when they end. `batch["stream"]` tells where a row comes from.

    Args:
      parts: streams with the same keys and shapes, each over all hosts.
      shard: (host, hosts); this host's share of each batch.
    """

    parts: Sequence[Stream]
    shard: tuple[int, int] = (0, 1)

    @property
    def accounts(self) -> tuple[Account, ...]:
        """Those of all parts."""
        return tuple(account for part in self.parts for account in part.accounts)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one pass over the first stream."""
        return self.parts[0].steps_per_epoch

    def __len__(self) -> int:
        return len(self.parts[0])

    def batch(self, step: int) -> Batch:
        """Batch `step` of every part, one after the other.

        Raises:
          InputError: the parts' batches have different keys.
        """
        batches = [part.batch(step) for part in self.parts]
        keys = set(batches[0])
        if any(set(other) != keys for other in batches):
            raise InputError("mixed streams: expected the same keys in every part")
        sizes = [len(batch["row"]) for batch in batches]
        mixed = {key: np.concatenate([b[key] for b in batches]) for key in batches[0]}
        mixed["stream"] = np.repeat(np.arange(len(sizes)), sizes).astype(np.int32)
        return {key: sharded(value, self.shard) for key, value in mixed.items()}


def mixed_sizes(batch_size: int, weights: Sequence[float]) -> list[int]:
    """Rows of each stream in a batch: its share, rounded by largest remainder.

    >>> mixed_sizes(32, [0.9, 0.1])
    [29, 3]

    Raises:
      InputError: a stream with a positive weight would get no row.
    """
    if any(w <= 0 for w in weights) or not np.isfinite(sum(weights)):
        raise InputError(f"weights: expected positive numbers, got {list(weights)}")
    shares = [batch_size * w / sum(weights) for w in weights]
    sizes = [int(share) for share in shares]
    by_rest = sorted(range(len(sizes)), key=lambda i: sizes[i] - shares[i])
    for i in by_rest[: batch_size - sum(sizes)]:
        sizes[i] += 1
    if 0 in sizes:
        raise InputError(
            f"weights: with a batch of {batch_size}, {list(weights)} leaves stream "
            f"{sizes.index(0)} without a row; expected a larger batch or weight"
        )
    return sizes


def filled(rows: Int64[np.ndarray, " n"], size: int) -> Int64[np.ndarray, " B"]:
    """Row numbers, with -1 up to `size`."""
    return np.concatenate([rows, np.full(size - len(rows), -1, np.int64)])


def sharded(values: np.ndarray, shard: tuple[int, int]) -> np.ndarray:
    """The part of a batch's rows that belongs to one host.

    >>> sharded(np.arange(6), (1, 3)).tolist()
    [2, 3]
    """
    host, hosts = shard
    size = len(values) // hosts
    return values[host * size : (host + 1) * size]


def check_shard(batch_size: int, shard: tuple[int, int]) -> None:
    """Refuses a batch that does not divide among the hosts."""
    host, hosts = shard
    if not 0 <= host < hosts or batch_size < 1 or batch_size % hosts:
        raise InputError(
            f"shard: expected a host below the number of hosts and a batch size that "
            f"it divides, got host {host} of {hosts} and batch size {batch_size}"
        )
