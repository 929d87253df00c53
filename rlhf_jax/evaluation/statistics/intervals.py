"""Estimates with 95 % intervals: Wilson, bootstrap, clustered bootstrap, paired.

Every number that the evaluations print is a smooth function of sums over items: a mean,
a rate, a ratio, corpus BLEU. Items that share a prompt (or a labeler) are not
independent, so what is resampled is the cluster, not the item; the number of clusters,
not of items, sets the width.

The plain percentile bootstrap is too narrow for few clusters. Here its levels are
widened to those of Student's t with a variance factor C/(C-1), which Hesterberg (2015,
"What Teachers Should Know About the Bootstrap", section 4.2) names the expanded
percentile interval; with it 95 % intervals cover about 95 % from 15 clusters up.
"""

import dataclasses
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from jaxtyping import Float

Clusters = Sequence[Hashable] | np.ndarray | None
Statistic = Callable[[np.ndarray], np.ndarray]

_DRAWS_AT_ONCE = 2_000_000  # resampled indices held in memory together (16 MB)


@dataclasses.dataclass(frozen=True)
class Interval:
    """An estimate and its confidence interval, in the unit of the estimate.

    Attributes:
      estimate: the statistic on the data as they are.
      low: lower end.
      high: upper end.
      num_items: items behind the estimate.
      num_clusters: independent groups of items; equals num_items when unclustered.
      confidence: coverage the interval is built for.
    """

    estimate: float
    low: float
    high: float
    num_items: int
    num_clusters: int
    confidence: float = 0.95

    def scaled(self, factor: float) -> "Interval":
        """The same interval in another unit, e.g. factor 100 for percent."""
        low, high = sorted((self.low * factor, self.high * factor))
        return dataclasses.replace(
            self, estimate=self.estimate * factor, low=low, high=high
        )

    def excludes(self, value: float) -> bool:
        """Whether `value` lies outside the interval."""
        return value < self.low or value > self.high

    def document(self) -> dict[str, float | None]:
        """For JSON, which has no infinity: an end without limit is None."""
        found = dataclasses.asdict(self)
        return {
            name: value if np.isfinite(value) else None for name, value in found.items()
        }

    def text(self, digits: int = 3) -> str:
        """`0.534 [0.512, 0.556]`."""
        ends = f"[{self.low:.{digits}f}, {self.high:.{digits}f}]"
        return f"{self.estimate:.{digits}f} {ends}"


def wilson_interval(
    successes: int, num_items: int, *, confidence: float = 0.95
) -> Interval:
    """Wilson's score interval of a proportion of independent yes/no items.

    (p̂ + z²/2n ± z √(p̂(1-p̂)/n + z²/4n²)) / (1 + z²/n). Never leaves [0, 1], and is not
    empty when every item succeeds.

    Args:
      successes: items that are a yes.
      num_items: all items; at least 1.
      confidence: coverage.

    Raises:
      ValueError: no items, or successes outside [0, num_items].

    Source: Wilson 1927.

    >>> wilson_interval(10, 10).text()
    '1.000 [0.722, 1.000]'
    """
    if num_items < 1 or not 0 <= successes <= num_items:
        raise ValueError(f"{successes} successes of {num_items} items")
    z = _normal_quantile(0.5 + confidence / 2)
    p = successes / num_items
    centre = p + z**2 / (2 * num_items)
    half = z * np.sqrt(p * (1 - p) / num_items + z**2 / (4 * num_items**2))
    scale = 1 + z**2 / num_items
    low, high = max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)
    return Interval(p, float(low), float(high), num_items, num_items, confidence)


def rate_interval(
    values: Float[np.ndarray, "N"] | Sequence[float],
    clusters: Clusters = None,
    **options,
) -> Interval:
    """As `bootstrap_interval`, for values in [0, 1], honest also when all are alike.

    Where every value is 0, or every one is 1, resampling sees no spread at all; then
    the interval is Wilson's for as many items as there are clusters.
    """
    values = np.asarray(values, np.float64)
    if len(values) and (values == values[0]).all() and values[0] in (0.0, 1.0):
        count = len(values) if clusters is None else len(set(clusters))
        confidence = options.get("confidence", 0.95)
        found = wilson_interval(int(values[0]) * count, count, confidence=confidence)
        return dataclasses.replace(found, num_items=len(values))
    return bootstrap_interval(values, clusters=clusters, **options)


def paired_interval(
    left: Float[np.ndarray, "N"] | Sequence[float],
    right: Float[np.ndarray, "N"] | Sequence[float],
    clusters: Clusters = None,
    **options,
) -> Interval:
    """The mean of left - right over the same items, with its interval.

    The difficulty of an item moves both sides and cancels, so this is far narrower than
    the difference of two intervals. `options` as for `bootstrap_interval`.
    """
    left, right = np.asarray(left, np.float64), np.asarray(right, np.float64)
    if left.shape != right.shape:
        raise ValueError(f"{left.shape} values against {right.shape}: not paired")
    return bootstrap_interval(left - right, clusters=clusters, **options)


def bootstrap_interval(
    values: Float[np.ndarray, "..."],
    statistic: Statistic | None = None,
    *,
    clusters: Clusters = None,
    confidence: float = 0.95,
    num_resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Interval of any smooth function of the items' sums.

    Args:
      values: [N] or [N, k] finite per-item quantities that add up over items.
      statistic: sums [..., k] -> [...]. None: the mean of [N] values.
      clusters: [N] group of each item (prompt, user, labeler); None: its own each.
      confidence: coverage.
      num_resamples: bootstrap draws.
      seed: of the draws; the same seed gives the same interval.

    Returns:
      The statistic of the whole and its expanded percentile interval. With a single
      cluster nothing is known about the spread: the interval is (-inf, inf).

    Raises:
      ValueError: no values, a value that is not finite, or lengths that differ.
    """
    values = np.asarray(values, np.float64)
    if values.size == 0:
        raise ValueError("no items to average")
    if not np.isfinite(values).all():
        bad = np.argwhere(~np.isfinite(values))[0]
        raise ValueError(f"item {bad[0]} is {values[tuple(bad)]}, not a finite number")
    if statistic is None:
        values = np.stack([values, np.ones_like(values)], axis=-1)
        statistic = _ratio
    sums = cluster_sums(values, clusters)
    estimate = float(statistic(sums.sum(0)))
    sizes = {"num_items": len(values), "num_clusters": len(sums)}
    if len(sums) == 1:
        return Interval(estimate, -np.inf, np.inf, confidence=confidence, **sizes)
    totals = bootstrap_totals(sums, num_resamples=num_resamples, seed=seed)
    low, high = expanded_percentiles(statistic(totals), len(sums), confidence)
    return Interval(estimate, float(low), float(high), confidence=confidence, **sizes)


def cluster_sums(
    values: Float[np.ndarray, "..."], clusters: Clusters
) -> Float[np.ndarray, "..."]:
    """Per-item values [N, ...] added up within each cluster -> [C, ...]."""
    if clusters is None:
        return values
    if len(clusters) != len(values):
        raise ValueError(f"{len(clusters)} cluster names for {len(values)} items")
    order: dict = {}
    index = np.array([order.setdefault(name, len(order)) for name in clusters])
    sums = np.zeros((len(order), *values.shape[1:]))
    np.add.at(sums, index, values)
    return sums


def bootstrap_totals(
    sums: Float[np.ndarray, "C ..."], *, num_resamples: int, seed: int
) -> Float[np.ndarray, "R ..."]:
    """Sums over C clusters drawn with replacement, `num_resamples` times."""
    rng = np.random.default_rng(seed)
    count = len(sums)
    at_once = max(1, _DRAWS_AT_ONCE // count)
    totals = []
    for start in range(0, num_resamples, at_once):
        rows = min(at_once, num_resamples - start)
        drawn = rng.integers(0, count, size=(rows, count))
        flat = drawn + count * np.arange(rows)[:, None]
        weights = np.bincount(flat.ravel(), minlength=rows * count)
        totals.append(np.tensordot(weights.reshape(rows, count) * 1.0, sums, axes=1))
    return np.concatenate(totals)


def expanded_percentiles(
    draws: Float[np.ndarray, "R ..."], num_clusters: int, confidence: float
) -> Float[np.ndarray, "2 ..."]:
    """The two ends of the expanded percentile interval of bootstrap draws."""
    from scipy import stats

    t = stats.t.ppf(0.5 + confidence / 2, num_clusters - 1)
    level = stats.norm.cdf(-t * np.sqrt(num_clusters / (num_clusters - 1)))
    return np.quantile(draws, [level, 1 - level], axis=0)


def _ratio(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / sums[..., 1]


def _normal_quantile(level: float) -> float:
    from scipy import special

    return float(special.ndtri(level))
