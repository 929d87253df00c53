"""Several labelers' rankings of the same responses, made into one."""

from collections.abc import Sequence

import numpy as np

from rlhf_jax.data import Ranking
from rlhf_jax.data.records import dense_ranks
from rlhf_jax.errors import InputError


def aggregate(rankings: Sequence[Ranking]) -> Ranking:
    """One ranking by Copeland's rule: the pairwise majority of the labelers.

        score(a) = Σ_b sign( #{labelers: a before b} - #{labelers: b before a} )

    Responses with equal scores are tied, so labelers who contradict each other make a
    tie, as the paper's guidelines ask for.

    Args:
      rankings: rankings of the same responses to one prompt, in any order.

    Returns:
      The first record with the aggregated ranks; `labeler` names all, and Likert
      scores, flags, order and time, which belong to one labeler, are dropped.

    Raises:
      InputError: no rankings, or other responses in one of them.

    >>> def row(labeler, ranks):
    ...     return Ranking(id="1", prompt="p", responses=["a", "b", "c"], ranks=ranks,
    ...                    labeler=labeler)
    >>> aggregate([row("x", [1, 2, 3]), row("y", [2, 1, 3]), row("z", [1, 2, 2])]).ranks
    [1, 2, 3]
    """
    if not rankings:
        raise InputError("aggregate: expected at least one ranking")
    first = rankings[0]
    table = []
    for row in rankings:
        place = dict(zip(row.responses, row.ranks, strict=True))
        if row.prompt != first.prompt or set(place) != set(first.responses):
            raise InputError(
                f"aggregate: {row.id} ranks other responses than {first.id}"
            )
        table.append([place[text] for text in first.responses])
    ranks = np.array(table)
    ahead = np.sign((ranks[:, :, None] < ranks[:, None, :]).sum(0)
                    - (ranks[:, :, None] > ranks[:, None, :]).sum(0))  # fmt: skip
    score = ahead.sum(axis=1)
    return first.model_copy(
        update={
            "ranks": dense_ranks((-score).tolist()),
            "labeler": "+".join(row.labeler or "?" for row in rankings),
            "likert": None,
            "flags": None,
            "shown_order": None,
            "seconds": None,
        }
    )
