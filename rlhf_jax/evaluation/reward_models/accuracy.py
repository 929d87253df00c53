"""How good is a reward model: accuracy, calibration, and what it mistakes for quality.

A comparison is a pair of one prompt's responses that is not tied; the model is right
where the better one scores higher (an equal score counts half). Comparisons of a prompt
share responses, so the prompt is what is resampled.

Source: Ouyang et al. 2022, section 4.1 (72.4 % for the labelers it was trained on,
69.6 % for held-out ones, by five folds over labelers); calibration: Bai et al. 2022.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from jaxtyping import Float

from rlhf_jax.data.encoding import said_before
from rlhf_jax.data.records import Ranking
from rlhf_jax.errors import InputError
from rlhf_jax.evaluation.statistics.intervals import Interval, rate_interval
from rlhf_jax.evaluation.statistics.scores import Score

RewardFunction = Callable[[Sequence[str], Sequence[str]], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Pairs:
    """All comparisons of a set of rankings.

    Attributes:
      margins: [N] score of the better response minus score of the worse.
      rank_gaps: [N] their difference in rank, at least 1.
      prompts: [N] where each comes from.
    """

    margins: Float[np.ndarray, "N"]
    rank_gaps: np.ndarray
    prompts: tuple[str, ...]


def score_rankings(
    reward: RewardFunction, rankings: Sequence[Ranking]
) -> list[np.ndarray]:
    """The reward of every response: a list of [K] arrays, one call for all.

    Raises:
      InputError: a reward that is not finite, with the ranking's id.
    """
    prompts = [said_before(r) for r in rankings for _ in r.responses]
    responses = [text for r in rankings for text in r.responses]
    flat = np.asarray(reward(prompts, responses), np.float64)
    ends = np.cumsum([len(r.responses) for r in rankings])
    parts = np.split(flat, ends[:-1])
    for ranking, part in zip(rankings, parts, strict=True):
        if not np.isfinite(part).all():
            k = int(np.argmax(~np.isfinite(part)))
            raise InputError(
                f"ranking {ranking.id}: response {k} scored {part[k]}; expected a "
                "finite number"
            )
    return parts


def pairs_of(rankings: Sequence[Ranking], scores: Sequence[np.ndarray]) -> Pairs:
    """The untied comparisons of rankings whose responses have been scored.

    Raises:
      InputError: there is none.
    """
    margins, gaps, prompts = [], [], []
    for ranking, score in zip(rankings, scores, strict=True):
        for better, worse in ranking.pairs:
            margins.append(score[better] - score[worse])
            gaps.append(ranking.ranks[worse] - ranking.ranks[better])
            prompts.append(ranking.prompt)
    if not margins:
        raise InputError("the rankings hold no pair that is not tied")
    return Pairs(np.array(margins), np.array(gaps), tuple(prompts))


def _right(margins: np.ndarray) -> np.ndarray:
    return np.where(margins == 0, 0.5, (margins > 0).astype(float))


def pair_accuracy(pairs: Pairs, **options) -> Interval:
    """Share of comparisons in which the better response scores higher."""
    return rate_interval(_right(pairs.margins), pairs.prompts, **options)


def accuracy_by_rank_gap(pairs: Pairs, **options) -> dict[int, Interval]:
    """Accuracy among comparisons with each difference in rank: far is easier."""
    found = {}
    for gap in sorted(set(pairs.rank_gaps.tolist())):
        rows = np.flatnonzero(pairs.rank_gaps == gap)
        found[gap] = rate_interval(
            _right(pairs.margins[rows]), [pairs.prompts[i] for i in rows], **options
        )
    return found


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Predicted against observed preference.

    Attributes:
      predicted: [bins] mean σ(|margin|), from 0.5 to 1, of each non-empty bin.
      observed: [bins] share in which the response that scores higher is the better.
      counts: [bins] comparisons.
      error: expected calibration error Σ nᵢ/n |observed - predicted|.
      loss: mean -log σ(margin), nats: the ranking loss.
    """

    predicted: Float[np.ndarray, "bins"]
    observed: Float[np.ndarray, "bins"]
    counts: np.ndarray
    error: float
    loss: float


def calibration(pairs: Pairs, *, num_bins: int = 10) -> Calibration:
    """The reliability diagram's numbers.

    P(w preferred to l) = σ(r_w - r_l) is what the ranking loss fits; by symmetry each
    comparison is put on the side that the model prefers, so bins run from 0.5 to 1.
    """
    confident = 1 / (1 + np.exp(-np.abs(pairs.margins)))
    right = _right(pairs.margins)
    place = np.minimum(((confident - 0.5) * 2 * num_bins).astype(int), num_bins - 1)
    counts = np.bincount(place, minlength=num_bins)
    full = counts > 0
    predicted = np.bincount(place, confident, num_bins)[full] / counts[full]
    observed = np.bincount(place, right, num_bins)[full] / counts[full]
    shares = counts[full] / counts.sum()
    return Calibration(
        predicted,
        observed,
        counts[full],
        float(shares @ np.abs(observed - predicted)),
        float(np.mean(np.logaddexp(0, -pairs.margins))),
    )


def length_correlation(
    rankings: Sequence[Ranking], scores: Sequence[np.ndarray]
) -> dict[str, float]:
    """How far length explains the reward.

    Returns:
      "spearman": rank correlation of score and words within prompts (both centred by
      prompt); "longer preferred": share of pairs of unequal length in which the longer
      scores higher; "longer better": the same share according to the labelers.
    """
    from scipy import stats

    centred_scores, centred_words, prefers, better = [], [], [], []
    for ranking, score in zip(rankings, scores, strict=True):
        words = np.array([len(text.split()) for text in ranking.responses], float)
        centred_scores.append(score - score.mean())
        centred_words.append(words - words.mean())
        for good, bad in ranking.pairs:
            if words[good] == words[bad]:
                continue
            longer, shorter = (good, bad) if words[good] > words[bad] else (bad, good)
            prefers.append(float(score[longer] > score[shorter]))
            better.append(float(longer == good))
    x, y = np.concatenate(centred_words), np.concatenate(centred_scores)
    varied = x.std() > 0 and y.std() > 0
    return {
        "spearman": float(stats.spearmanr(x, y).statistic) if varied else 0.0,
        "longer preferred": float(np.mean(prefers)) if prefers else 0.5,
        "longer better": float(np.mean(better)) if better else 0.5,
    }


def labeler_folds(labelers: Iterable[str], num_folds: int = 5) -> list[set[str]]:
    """Labelers split into groups of nearly equal size, by sorted name.

    Raises:
      InputError: fewer labelers than groups.
    """
    names = sorted(set(labelers))
    if len(names) < num_folds:
        raise InputError(f"{len(names)} labelers do not make {num_folds} groups")
    return [set(names[i::num_folds]) for i in range(num_folds)]


def cross_validated_accuracy(
    train: Callable[[Sequence[Ranking]], RewardFunction],
    rankings: Sequence[Ranking],
    *,
    num_folds: int = 5,
) -> dict[str, Interval]:
    """Accuracy on the labelers trained on, and on labelers held out.

    For each group of labelers a reward model is trained on the "train" split of the
    others; it is judged on their other splits (in-group) and on the group left out.

    Args:
      train: rankings -> (prompts, responses) -> rewards.
      rankings: with `labeler` and `split`.
      num_folds: groups; the paper has 5.

    Returns:
      {"in-group": ..., "held-out": ...} over all folds, prompts resampled.

    Raises:
      InputError: a ranking without a labeler, or a fold with nothing to judge.
    """
    for ranking in rankings:
        if ranking.labeler is None:
            raise InputError(f"ranking {ranking.id}: labeler: missing")
    right: dict[str, list] = {"in-group": [], "held-out": []}
    prompts: dict[str, list] = {"in-group": [], "held-out": []}
    for fold in labeler_folds((r.labeler for r in rankings), num_folds):
        inside = [r for r in rankings if r.labeler not in fold]
        reward = train([r for r in inside if r.split == "train"])
        judged = {
            "in-group": [r for r in inside if r.split != "train"],
            "held-out": [r for r in rankings if r.labeler in fold],
        }
        for name, some in judged.items():
            pairs = pairs_of(some, score_rankings(reward, some))
            right[name].append(_right(pairs.margins))
            prompts[name] += pairs.prompts
    return {
        name: rate_interval(np.concatenate(right[name]), prompts[name])
        for name in right
    }


def scores_of_pairs(pairs: Pairs, *, condition: str = "") -> list[Score]:
    """Accuracy and ranking loss as rows of a table."""
    options = {"condition": condition, "clusters": pairs.prompts}
    loss = np.logaddexp(0, -pairs.margins)
    return [
        Score(
            "reward model", "accuracy %", _right(pairs.margins), scale=100, **options
        ),
        Score("reward model", "loss (nats)", loss, higher_is_better=False, **options),
    ]
