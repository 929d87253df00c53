"""What a number or a word of a model's description may be: its type and its range.

A description may come from anybody. Every field of it is looked at before a size is
derived from it or an array allocated.
"""

import dataclasses
import numbers
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Number:
    """From `least` to `most`; `whole`: an integer; `below`: `most` is not included."""

    least: float
    most: float
    whole: bool = False
    below: bool = False

    def __str__(self) -> str:
        what = "an integer" if self.whole else "a number"
        shown = [
            f"{end}" if abs(end) < 1e7 or self.whole else f"{end:.0e}"
            for end in (self.least, self.most)
        ]
        return f"{what} from {shown[0]} to {'below ' * self.below}{shown[1]}"

    def holds(self, value: Any) -> bool:
        """Whether a value is such a number."""
        kind = numbers.Integral if self.whole else numbers.Real
        if isinstance(value, bool) or not isinstance(value, kind):
            return False
        inside = self.least <= value <= self.most  # NaN is in no range
        return inside and not (self.below and value == self.most)


@dataclasses.dataclass(frozen=True)
class Flag:
    """True or False."""

    def __str__(self) -> str:
        return "true or false"

    def holds(self, value: Any) -> bool:
        """Whether a value is one of the two."""
        return isinstance(value, bool)


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of several words."""

    options: Sequence[str]

    def __str__(self) -> str:
        return f"one of {', '.join(self.options)}"

    def holds(self, value: Any) -> bool:
        """Whether a value is one of the words."""
        return isinstance(value, str) and value in self.options


@dataclasses.dataclass(frozen=True)
class Kind:
    """An instance of a class."""

    kind: type

    def __str__(self) -> str:
        return f"a {self.kind.__name__}"

    def holds(self, value: Any) -> bool:
        """Whether a value is one."""
        return isinstance(value, self.kind)


@dataclasses.dataclass(frozen=True)
class Optional:
    """Something, or None."""

    inner: Any

    def __str__(self) -> str:
        return f"{self.inner} or none"

    def holds(self, value: Any) -> bool:
        """Whether a value is None or such a thing."""
        return value is None or self.inner.holds(value)


@dataclasses.dataclass(frozen=True)
class Several:
    """A list or tuple of things."""

    inner: Any

    def __str__(self) -> str:
        return f"a list, each {self.inner}"

    def holds(self, value: Any) -> bool:
        """Whether a value is a list of such things."""
        return isinstance(value, list | tuple) and all(map(self.inner.holds, value))


def problems(values: Any, rules: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each field that breaks its rule.

    Args:
      values: an object with the fields, or a mapping; what a mapping lacks is passed
        over.
      rules: field -> rule.
    """
    mapping = isinstance(values, Mapping)
    for name, rule in rules.items():
        if mapping and name not in values:
            continue
        value = values[name] if mapping else getattr(values, name)
        if not rule.holds(value):
            shown = repr(value)
            shown = shown if len(shown) <= 60 else shown[:60] + "..."
            yield f"{name} is {shown}, expected {rule}"
