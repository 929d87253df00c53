"""How far labelers agree (InstructGPT section 3.4: 72.6 % and 77.3 %)."""

import itertools
from collections.abc import Iterable, Sequence

import numpy as np

from rlhf_jax.data import Ranking


def _by_responses(rankings: Iterable[Ranking]) -> list[list[dict[str, int]]]:
    """For each set of responses, the ranks that each labeler gave, by text."""
    groups: dict[tuple, dict[str, dict[str, int]]] = {}
    for row in rankings:
        key = (row.prompt, tuple(sorted(set(row.responses))))
        ranks = dict(zip(row.responses, row.ranks, strict=True))
        groups.setdefault(key, {})[row.labeler or row.id] = ranks
    return [list(people.values()) for people in groups.values() if len(people) > 1]


def pairwise_agreement(rankings: Iterable[Ranking]) -> dict[str, float]:
    """The share of pairs of responses that two labelers order alike.

    Counted over all pairs of labelers of the same responses and all pairs of responses
    that neither labeler tied.

    Args:
      rankings: several labelers' rankings of the same responses.

    Returns:
      `agreement` in [0, 1] (NaN without pairs), `pairs` counted, `tied` left out.

    >>> def row(labeler, ranks):
    ...     return Ranking(id=labeler, prompt="p", responses=["a", "b", "c"],
    ...                    ranks=ranks, labeler=labeler)
    >>> pairwise_agreement([row("x", [1, 2, 3]), row("y", [1, 3, 2])])["agreement"]
    0.6666666666666666
    """
    same = counted = tied = 0
    for people in _by_responses(rankings):
        for one, other in itertools.combinations(people, 2):
            for a, b in itertools.combinations(sorted(one), 2):
                if one[a] == one[b] or other[a] == other[b]:
                    tied += 1
                    continue
                counted += 1
                same += (one[a] < one[b]) == (other[a] < other[b])
    agreement = same / counted if counted else float("nan")
    return {"agreement": agreement, "pairs": float(counted), "tied": float(tied)}


def krippendorff_alpha(
    ratings: Sequence[Sequence[float | None]], *, level: str = "ordinal"
) -> float:
    """Krippendorff's alpha: 1 is full agreement, 0 what chance gives.

    Args:
      ratings: one row per labeler, one column per item; None where not rated.
      level: "nominal", "ordinal" or "interval".

    Returns:
      alpha; NaN where no item has two ratings.
    """
    import krippendorff

    table = np.array(
        [[np.nan if value is None else value for value in row] for row in ratings],
        np.float64,
    )
    if table.size == 0 or (np.isfinite(table).sum(axis=0) < 2).all():
        return float("nan")
    values = table[np.isfinite(table)]
    if (values == values[0]).all():
        return 1.0
    return float(krippendorff.alpha(reliability_data=table, level_of_measurement=level))
