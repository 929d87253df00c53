"""Alarms: a list of named questions to the history of the metrics.

A stage adds its own by adding to the list:

    alarms = (*DEFAULT_ALARMS, above("kl", 40.0, action="stop"))
"""

import dataclasses
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

History = Sequence[Mapping[str, float]]
Action = Literal["warn", "stop"]


@dataclasses.dataclass(frozen=True)
class Alarm:
    """A question that is asked after each step.

    Attributes:
      name: what the log calls it.
      when: gets the metrics of the first steps of the run and of the latest, in order
        and never empty; gives a sentence with the numbers when something is wrong, else
        None. A metric may be missing from any step.
      action: "warn" writes it down; "stop" saves the state and ends the run with
        exit code 3.
    """

    name: str
    when: Callable[[History], str | None]
    action: Action = "warn"


def above(metric: str, limit: float, *, action: Action = "warn") -> Alarm:
    """Fires while `metric` is above `limit`, or not a number.

    >>> above("kl", 10.0).when([{"kl": 11.5}])
    'kl = 11.5 is above 10'
    """

    def when(history: History) -> str | None:
        value = history[-1].get(metric)
        if value is None or value <= limit:
            return None
        return f"{metric} = {value:.6g} is above {limit:.6g}"

    return Alarm(f"{metric} too high", when, action)


def below(metric: str, limit: float, *, action: Action = "warn") -> Alarm:
    """Fires while `metric` is below `limit`, or not a number."""

    def when(history: History) -> str | None:
        value = history[-1].get(metric)
        if value is None or value >= limit:
            return None
        return f"{metric} = {value:.6g} is below {limit:.6g}"

    return Alarm(f"{metric} too low", when, action)


def spike(
    metric: str,
    factor: float,
    *,
    window: int = 50,
    at_least: int = 10,
    action: Action = "warn",
) -> Alarm:
    """Fires when `metric` exceeds `factor` times its median over the steps before.

    Args:
      metric: its name; meant for values that are not negative.
      factor: how many times the median.
      window: steps that the median looks back.
      at_least: steps needed before it is asked.
      action: "warn" or "stop".
    """

    def when(history: History) -> str | None:
        value = history[-1].get(metric)
        before = [m[metric] for m in history[-window - 1 : -1] if metric in m]
        if value is None or len(before) < at_least:
            return None
        usual = statistics.median(before)
        if value <= factor * usual:
            return None
        return (
            f"{metric} = {value:.6g} is more than {factor:g} times its median "
            f"{usual:.6g} over {len(before)} steps"
        )

    return Alarm(f"{metric} spike", when, action)


def lasts(alarm: Alarm, steps: int, *, action: Action = "stop") -> Alarm:
    """Fires when another alarm has held at each of the last `steps` steps.

    >>> empty = lasts(below("length", 1.5), 2)
    >>> empty.when([{"length": 9.0}, {"length": 1.0}])
    >>> empty.when([{"length": 1.0}, {"length": 1.0}])
    'for 2 steps: length = 1 is below 1.5'
    """

    def when(history: History) -> str | None:
        if len(history) < steps:
            return None
        found = [alarm.when(history[: len(history) - back]) for back in range(steps)]
        return None if None in found else f"for {steps} steps: {found[0]}"

    return Alarm(f"{alarm.name}, lasting", when, action)


def drifts(metric: str, factor: float, *, window: int = 5) -> Alarm:
    """Fires when the mean of the last steps is `factor` times that of the first ones,
    or that part of it.

    Args:
      metric: its name; meant for positive values.
      factor: more than 1.
      window: steps of either mean; fewer where there are fewer.
    """

    def when(history: History) -> str | None:
        values = [row[metric] for row in history if row.get(metric)]
        if len(values) < 2:
            return None
        some = min(window, len(values) // 2)
        first, last = statistics.fmean(values[:some]), statistics.fmean(values[-some:])
        if first > 0 and 1 / factor <= last / first <= factor:
            return None
        return f"{metric} went from {first:.4g} at the start to {last:.4g}"

    return Alarm(f"{metric} drifts", when)


def collapses(metric: str, window: int = 20) -> Alarm:
    """Fires when the mean of the last steps is two spreads below the best before, that
    of the first ones included.

    Args:
      metric: its name; `<metric>_std` is its spread within a step.
      window: steps of a mean.
    """

    def when(history: History) -> str | None:
        rows = [row for row in history if math.isfinite(row.get(metric, math.nan))]
        if len(rows) < 2 * window:
            return None
        means = [
            statistics.fmean(row[metric] for row in rows[i : i + window])
            for i in range(0, len(rows) - window + 1, window)
        ]
        last = statistics.fmean(row[metric] for row in rows[-window:])
        spread = max(rows[-1].get(f"{metric}_std", 0.0), 1e-6)
        if last >= max(means) - 2 * spread:
            return None
        return f"{metric} fell from {max(means):.4g} to {last:.4g}"

    return Alarm(f"{metric} collapses", when)


# 100: a clipped outlier among steady batches stays far below it
DEFAULT_ALARMS = (spike("grad_norm", 100.0),)
