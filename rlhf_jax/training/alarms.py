"""Alarms: a list of named questions to the history of the metrics.

A stage adds its own by adding to the list:

    alarms = (*DEFAULT_ALARMS, above("kl", 40.0, action="stop"))
"""

import dataclasses
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
      when: gets the metrics of the latest steps, oldest first and never empty; gives
        a sentence with the numbers when something is wrong, else None. A metric may
        be missing from any step.
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


# 100: a clipped outlier among steady batches stays far below it
DEFAULT_ALARMS = (spike("grad_norm", 100.0),)
