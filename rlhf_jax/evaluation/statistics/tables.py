"""Rows of metrics, columns of policies: the shape of every result.

A row is one metric of one task under one condition; a cell is an interval. With a
baseline named, a second interval per cell is the paired difference to it, over the same
items: that, not two overlapping intervals, says whether a policy lost something. With
all suites in it and the pretrained model as baseline this is the alignment tax (Ouyang
et al. 2022, figures 28 and 29, table 14).
"""

import dataclasses
from collections.abc import Mapping, Sequence

from rlhf_jax.errors import InputError
from rlhf_jax.evaluation.statistics.intervals import Interval
from rlhf_jax.evaluation.statistics.scores import Score

Results = Mapping[str, Sequence[Score]]


@dataclasses.dataclass(frozen=True)
class ResultRow:
    """One metric over the policies.

    Attributes:
      task, metric, condition: what was measured.
      cells: policy -> value; a policy that was not measured is absent.
      differences: policy -> paired difference to the baseline.
      higher_is_better: None where neither direction is.
    """

    task: str
    metric: str
    condition: str
    cells: dict[str, Interval]
    differences: dict[str, Interval]
    higher_is_better: bool | None

    def verdict(self, policy: str) -> str:
        """Says better or worse than the baseline; "" if the interval holds 0."""
        difference = self.differences.get(policy)
        if difference is None or self.higher_is_better is None:
            return ""
        if not difference.excludes(0.0):
            return ""
        return "better" if (difference.low > 0) == self.higher_is_better else "worse"


@dataclasses.dataclass(frozen=True)
class ResultTable:
    """The table of one or several suites.

    Attributes:
      title: its caption.
      policies: columns in order.
      rows: in order.
      baseline: the column that differences are taken to; "" none.
    """

    title: str
    policies: tuple[str, ...]
    rows: tuple[ResultRow, ...]
    baseline: str = ""

    def row(self, task: str, metric: str, condition: str = "") -> ResultRow:
        """The row with this key.

        Raises:
          KeyError: there is none.
        """
        for row in self.rows:
            if (row.task, row.metric, row.condition) == (task, metric, condition):
                return row
        raise KeyError((task, metric, condition))

    def document(self) -> dict:
        """The table as plain JSON values."""
        return {
            "title": self.title,
            "policies": list(self.policies),
            "baseline": self.baseline,
            "rows": [
                {
                    "task": row.task,
                    "metric": row.metric,
                    "condition": row.condition,
                    "higher_is_better": row.higher_is_better,
                    "cells": _documents(row.cells),
                    "differences": _documents(row.differences),
                }
                for row in self.rows
            ],
        }


def _documents(cells: Mapping[str, Interval]) -> dict[str, dict]:
    return {name: interval.document() for name, interval in cells.items()}


def result_table(
    title: str, results: Results, *, baseline: str = "", **options
) -> ResultTable:
    """The table of scores per policy.

    Args:
      title: caption.
      results: policy -> its scores; the row order is that of first appearance.
      baseline: a policy to take paired differences to; "" none.
      options: of the bootstrap.

    Raises:
      InputError: a baseline that is not among the policies, a metric given twice.
    """
    if baseline and baseline not in results:
        raise InputError(f"baseline {baseline!r}: expected one of {sorted(results)}")
    found: dict[tuple, dict[str, Score]] = {}
    for policy, scores in results.items():
        for score in scores:
            cells = found.setdefault(score.key, {})
            if policy in cells:
                raise InputError(f"{policy}: {score.label} was scored twice")
            cells[policy] = score
    rows = [_row(cells, baseline, options) for cells in found.values()]
    return ResultTable(title, tuple(results), tuple(rows), baseline)


def _row(cells: dict[str, Score], baseline: str, options: dict) -> ResultRow:
    one = next(iter(cells.values()))
    base = cells.get(baseline)
    return ResultRow(
        *one.key,
        cells={name: score.interval(**options) for name, score in cells.items()},
        differences={
            name: score.minus(base, **options)
            for name, score in cells.items()
            if base is not None and name != baseline
        },
        higher_is_better=one.higher_is_better,
    )
