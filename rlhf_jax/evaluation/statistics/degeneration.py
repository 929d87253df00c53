"""What a policy does when it has found a short cut: it repeats itself, or runs on."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float


def repeated_share(text: str, *, size: int = 3) -> float:
    """The share of a text's word n-grams that stood in it before, in [0, 1].

    >>> repeated_share("a b c a b c")
    0.25
    """
    words = text.lower().split()
    grams = list(zip(*(words[i:] for i in range(size)), strict=False))
    return 1 - len(set(grams)) / len(grams) if grams else 0.0


def distinct_share(texts: Sequence[str], *, size: int = 2) -> float:
    """Different n-grams per n-gram over all texts: low where they are all alike.

    Source: "distinct-n", Li et al. 2016.

    >>> distinct_share(["a b", "a b"])
    0.5
    """
    grams = [
        gram
        for text in texts
        for gram in zip(*(text.lower().split()[i:] for i in range(size)), strict=False)
    ]
    return len(set(grams)) / len(grams) if grams else 0.0


def word_counts(texts: Sequence[str]) -> Float[np.ndarray, " N"]:
    """Words of each text."""
    return np.array([len(text.split()) for text in texts], float)
