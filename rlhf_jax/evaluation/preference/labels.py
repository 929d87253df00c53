"""What people said about the responses of each policy: Likert, flags, preference.

Reads `Ranking` records whose `meta["policies"]` names the policy behind each response.
A prompt's responses are judged together, so prompts are what is resampled.

Source: Ouyang et al. 2022, section 3.6, table 3, figures 1 and 4.
"""

from collections.abc import Sequence

import numpy as np

from rlhf_jax.data.records import FLAG_NAMES, Ranking
from rlhf_jax.errors import InputError
from rlhf_jax.evaluation.preference.win_rates import Comparisons
from rlhf_jax.evaluation.statistics.scores import Score

# Of Table 3's flags only this one is good to have; two say neither good nor bad.
_GOOD_FLAGS = {"satisfies_constraint": True}
_NEUTRAL_FLAGS = {"expresses_opinion": None, "moral_judgment": None}


def policies_of(ranking: Ranking) -> list[str]:
    """The policy behind each response of a ranking.

    Raises:
      InputError: `meta["policies"]` is absent or of another length.
    """
    names = ranking.meta.get("policies")
    if not isinstance(names, list) or len(names) != len(ranking.responses):
        raise InputError(
            f"ranking {ranking.id}: meta.policies: expected "
            f"{len(ranking.responses)} names, found {names!r}"
        )
    return names


def labelled_scores(rankings: Sequence[Ranking]) -> dict[str, list[Score]]:
    """policy -> mean Likert score (1 to 7) and the rate of each flag of table 3."""
    likert: dict[str, list] = {}
    flags: dict[tuple[str, str], list] = {}
    for ranking in rankings:
        for k, policy in enumerate(policies_of(ranking)):
            name, cluster = f"{ranking.id}#{k}", ranking.prompt
            if ranking.likert is not None:
                likert.setdefault(policy, []).append((name, cluster, ranking.likert[k]))
            for flag in FLAG_NAMES if ranking.flags is not None else ():
                if flag in ranking.flags[k]:
                    value = float(ranking.flags[k][flag])
                    flags.setdefault((policy, flag), []).append((name, cluster, value))
    found: dict[str, list[Score]] = {}
    for policy, rows in likert.items():
        found.setdefault(policy, []).append(_score("likert (1-7)", rows, True))
    for (policy, flag), rows in flags.items():
        better = {**_GOOD_FLAGS, **_NEUTRAL_FLAGS}.get(flag, False)
        found.setdefault(policy, []).append(_score(flag, rows, better))
    if not found:
        raise InputError("no ranking has Likert scores or flags")
    return found


def _score(metric: str, rows: list[tuple], better: bool | None) -> Score:
    names, clusters, values = zip(*rows, strict=True)
    return Score(
        "labels",
        metric,
        np.array(values, float),
        items=names,
        clusters=clusters,
        higher_is_better=better,
    )


def comparisons_from_rankings(
    rankings: Sequence[Ranking], policy: str, baseline: str
) -> Comparisons:
    """Every pair of a response of `policy` and one of `baseline` under one prompt.

    Raises:
      InputError: no ranking has both.
    """
    outcomes, lengths, clusters = [], [], []
    for ranking in rankings:
        names = policies_of(ranking)
        for i in range(len(names)):
            for j in range(len(names)):
                if (names[i], names[j]) != (policy, baseline):
                    continue
                gap = ranking.ranks[j] - ranking.ranks[i]
                outcomes.append(0.5 if gap == 0 else float(gap > 0))
                words = [len(ranking.responses[k].split()) for k in (i, j)]
                lengths.append(words[0] - words[1])
                clusters.append(ranking.prompt)
    if not outcomes:
        raise InputError(f"no ranking has responses of both {policy} and {baseline}")
    outcomes = np.array(outcomes)
    return Comparisons(
        outcomes=outcomes,
        consistent=np.ones(len(outcomes), bool),
        first_wins=np.full(len(outcomes), 0.5),
        length_difference=np.array(lengths, float),
        clusters=tuple(clusters),
    )
