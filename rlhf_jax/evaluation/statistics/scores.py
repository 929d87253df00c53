"""What an evaluation returns: one number per item, kept until the interval is asked.

Keeping the items is what makes paired differences between policies possible: two
policies answered the same questions, so their scores are subtracted question by
question before anything is averaged.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from rlhf_jax.errors import InputError
from rlhf_jax.evaluation.statistics.intervals import (
    Interval,
    bootstrap_interval,
    rate_interval,
)


@dataclasses.dataclass(frozen=True)
class Score:
    """The per-item values of one metric of one policy on one task.

    Attributes:
      task: "squad", "winogender", ...
      metric: "F1", "accuracy", "entropy (bits)", ...
      values: [N], or [N, k] where `statistic` turns sums over items into the metric.
      condition: "zero-shot", "few-shot", "respectful", ... or "".
      items: [N] names of the items; two scores are paired by them.
      clusters: [N] groups that are resampled together; None: every item its own.
      statistic: sums [..., k] -> [...]; None: the mean.
      scale: the metric's unit over the values' (100 for percent).
      higher_is_better: None where neither direction is better.
      outputs: [N] what the policy wrote; empty where nothing was generated.
    """

    task: str
    metric: str
    values: np.ndarray
    condition: str = ""
    items: Sequence[str] = ()
    clusters: Sequence | None = None
    statistic: Callable[[np.ndarray], np.ndarray] | None = None
    scale: float = 1.0
    higher_is_better: bool | None = True
    outputs: Sequence[str] = ()

    def __post_init__(self):
        values = np.asarray(self.values, np.float64)
        items = tuple(self.items) or tuple(str(i) for i in range(len(values)))
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "items", items)
        if not len(values):
            raise InputError(f"{self.label}: there are no items to score")
        if len(items) != len(values):
            raise InputError(
                f"{self.label}: {len(items)} item names for {len(values)} values"
            )
        if not np.isfinite(values).all():
            row = np.argwhere(~np.isfinite(values))[0]
            raise InputError(
                f"{self.label}: item {items[row[0]]!r} scored {values[tuple(row)]}; "
                "expected a finite number"
            )

    @property
    def key(self) -> tuple[str, str, str]:
        """What names a row of a table: (task, metric, condition)."""
        return (self.task, self.metric, self.condition)

    @property
    def label(self) -> str:
        """The key in words: `squad F1 (few-shot)`."""
        return f"{self.task} {self.metric}" + (
            f" ({self.condition})" if self.condition else ""
        )

    def interval(self, **options) -> Interval:
        """The metric and its interval; `options` of the bootstrap."""
        if self.statistic is None:
            found = rate_interval(self.values, self.clusters, **options)
        else:
            found = bootstrap_interval(
                self.values, self.statistic, clusters=self.clusters, **options
            )
        return found.scaled(self.scale)

    def minus(self, other: "Score", **options) -> Interval:
        """The paired difference self - other over the items that both have.

        Raises:
          InputError: other metric, or no item in common.
        """
        if self.key != other.key:
            raise InputError(f"{self.label} cannot be compared with {other.label}")
        place = {name: row for row, name in enumerate(other.items)}
        rows = [i for i, name in enumerate(self.items) if name in place]
        if not rows:
            raise InputError(f"{self.label}: the two have no item in common")
        mine = self.values[rows]
        theirs = other.values[[place[self.items[i]] for i in rows]]
        clusters = None if self.clusters is None else [self.clusters[i] for i in rows]
        if self.statistic is None:
            difference = bootstrap_interval(mine - theirs, clusters=clusters, **options)
            return difference.scaled(self.scale)
        width = mine.shape[-1]
        return bootstrap_interval(
            np.concatenate([mine, theirs], axis=-1),
            lambda s: self.statistic(s[..., :width]) - self.statistic(s[..., width:]),
            clusters=clusters,
            **options,
        ).scaled(self.scale)


def cut_at_newline(text: str) -> str:
    """The sample up to its first newline, as every automatic evaluation of the paper.

    Source: Ouyang et al. 2022, appendix D.

    >>> cut_at_newline(" Paris\\n\\nQ: And")
    ' Paris'
    """
    return text.split("\n", 1)[0]
