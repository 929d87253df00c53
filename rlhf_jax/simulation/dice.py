"""Randomness that gives the same text on every machine.

Only the raw 64-bit stream of `numpy.random.PCG64` is used, which numpy promises never
to change; everything on top of it is integer arithmetic and exact float64 sums. A die
is named by words, `Dice("demonstration", seed, 17)`, so that what it throws does not
depend on what was thrown before.
"""

import hashlib
import math
import re
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")
_CHOICE, _SPACES = re.compile(r"\[([^\[\]]*)\]"), re.compile(" +")


class Dice:
    """A stream of choices that is a pure function of its name.

    >>> Dice("a", 1).below(1000) == Dice("a", 1).below(1000)
    True
    >>> Dice("a", 1).vary("[Hello|Hi], {name}!", name="Nell")
    'Hello, Nell!'
    """

    def __init__(self, *name: object):
        """Args: name: what this die is for; any values with a stable `str`."""
        digest = hashlib.sha256("\x1f".join(map(str, name)).encode()).digest()
        self._bits = np.random.PCG64(int.from_bytes(digest[:16], "big"))

    def below(self, count: int) -> int:
        """A whole number in [0, count)."""
        return int(self._bits.random_raw()) * count >> 64

    def between(self, low: int, high: int) -> int:
        """A whole number in [low, high], both ends included."""
        return low + self.below(high - low + 1)

    def unit(self) -> float:
        """A number in [0, 1)."""
        return (int(self._bits.random_raw()) >> 11) * 2.0**-53

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self.unit() < probability

    def normal(self) -> float:
        """Mean 0, variance 1: twelve uniforms less six (exact sums, no libm)."""
        draws = self._bits.random_raw(12).tolist()
        return math.fsum((draw >> 11) * 2.0**-53 for draw in draws) - 6.0

    def pick(self, items: Sequence[T]) -> T:
        """One of the items, all alike."""
        return items[self.below(len(items))]

    def weighted(self, items: Sequence[T], weights: Sequence[float]) -> T:
        """One of the items, with probability proportional to its weight."""
        left = self.unit() * math.fsum(weights)
        for item, weight in zip(items, weights, strict=True):
            left -= weight
            if left < 0:
                return item
        return items[-1]

    def sample(self, items: Sequence[T], count: int) -> list[T]:
        """`count` different items in random order."""
        return self.shuffled(items)[:count]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """All items in random order (Fisher-Yates)."""
        order = list(items)
        for last in range(len(order) - 1, 0, -1):
            other = self.below(last + 1)
            order[last], order[other] = order[other], order[last]
        return order

    def vary(self, template: str, **slots: object) -> str:
        """A wording of a template: `[a|b|]` picks one, then `{name}` is filled in."""
        while _CHOICE.search(template):
            template = _CHOICE.sub(
                lambda match: self.pick(match[1].split("|")), template
            )
        return _SPACES.sub(" ", template.format(**slots)).strip(" ")
