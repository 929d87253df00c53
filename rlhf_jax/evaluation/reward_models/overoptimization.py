"""Reward over-optimisation: gold reward against d = √KL(π ‖ π_init).

Best of n:  R(d) = d (α - β d)      peak at d* = α / 2β
RL:         R(d) = d (α - β log d)  peak at d* = exp(α/β - 1)

Both are linear in (α, β), so a fit is one least-squares solve; R(0) = 0, hence rewards
are measured from the initial policy's mean.

Source: Gao, Schulman & Hilton 2022, equations 1 and 2; KL of best-of-n and its unbiased
estimator as there and in Coste et al. 2023, equation 8.
"""

import dataclasses
import os
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from rlhf_jax.errors import InputError
from rlhf_jax.evaluation.suites.files import read_rows


@dataclasses.dataclass(frozen=True)
class FrontierPoint:
    """One policy on the way: how far it went and what it earned.

    Attributes:
      name: checkpoint, or n of best-of-n.
      kl: KL(π ‖ π_init) in nats per response.
      proxy: mean reward of the reward model trained against.
      gold: mean gold utility.
    """

    name: str
    kl: float
    proxy: float
    gold: float

    @property
    def distance(self) -> float:
        """d = √KL, the horizontal axis."""
        return float(np.sqrt(max(self.kl, 0.0)))


@dataclasses.dataclass(frozen=True)
class Fit:
    """A fitted curve R(d).

    Attributes:
      kind: "best-of-n" or "rl".
      alpha: initial slope (per √nat).
      beta: how fast it turns.
      r_squared: share of variance explained, against R = 0 if the data do not vary.

    The peak (`peak_distance`, `peak_reward`) is at infinity where β ≤ 0.
    """

    kind: str
    alpha: float
    beta: float
    r_squared: float

    @property
    def peak_distance(self) -> float:
        """d where R is greatest."""
        if self.beta <= 0:
            return float("inf")
        if self.kind == "rl":
            return float(np.exp(min(self.alpha / self.beta - 1, 700.0)))
        return max(0.0, self.alpha / (2 * self.beta))

    @property
    def peak_reward(self) -> float:
        """R at the peak."""
        if self.beta <= 0:
            return float("inf")
        return float(self(np.array([self.peak_distance]))[0])

    def __call__(self, distances: Float[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
        """R(d) on [N] distances."""
        return _basis(self.kind, np.asarray(distances, float)) @ [self.alpha, self.beta]


def _basis(kind: str, d: Float[np.ndarray, "N"]) -> Float[np.ndarray, "N 2"]:
    # d log d -> 0 as d -> 0
    turn = d * np.log(np.where(d > 0, d, 1.0)) if kind == "rl" else d**2
    return np.stack([d, -turn], axis=-1)


def fit_curve(
    kind: str,
    distances: Sequence[float] | np.ndarray,
    rewards: Sequence[float] | np.ndarray,
) -> Fit:
    """Least squares of R(d).

    Args:
      kind: "best-of-n", R(d) = d(α - βd), or "rl", R(d) = d(α - β log d).
      distances: [N] √KL, at least two different ones above 0.
      rewards: [N] above the initial policy's.

    Raises:
      InputError: too few points, or numbers that are not finite.
    """
    d, r = np.asarray(distances, np.float64), np.asarray(rewards, np.float64)
    if d.shape != r.shape or not (np.isfinite(d).all() and np.isfinite(r).all()):
        raise InputError("distances and rewards: expected as many finite numbers")
    if (d < 0).any() or len(set(d[d > 0].tolist())) < 2:
        raise InputError("the fit needs at least two different distances above 0")
    (alpha, beta), *_ = np.linalg.lstsq(_basis(kind, d), r, rcond=None)
    residual = ((r - _basis(kind, d) @ [alpha, beta]) ** 2).sum()
    total = ((r - r.mean()) ** 2).sum() or (r**2).sum() or 1.0
    return Fit(kind, float(alpha), float(beta), float(1 - residual / total))


def read_frontier(source: str | os.PathLike) -> dict[str, list[FrontierPoint]]:
    """run -> its points, from rows of `kl`, `proxy`, `gold` and maybe `run`, `name`.

    Raises:
      InputError: with the line, for a number that is none or a negative KL.
    """
    runs: dict[str, list[FrontierPoint]] = {}
    for number, row in enumerate(read_rows(source, columns=("kl", "proxy", "gold"))):
        kl = row.number("kl")
        if kl < 0:
            raise row.wrong("kl", f"expected 0 or more, found {kl}")
        name = str(row.fields.get("name", number))
        run = str(row.fields.get("run", "run"))
        point = FrontierPoint(name, kl, row.number("proxy"), row.number("gold"))
        runs.setdefault(run, []).append(point)
    return runs


def best_of_n_frontier(
    proxy: Float[np.ndarray, "prompts N"],
    gold: Float[np.ndarray, "prompts N"],
    sizes: Sequence[int] | None = None,
) -> list[FrontierPoint]:
    """Proxy and gold reward of best-of-n for every n at once, without wasting samples.

    Args:
      proxy: [prompts, N] reward-model scores of N independent samples per prompt.
      gold: [prompts, N] their gold scores.
      sizes: the n to report, each from 1 to N; powers of two and N by default.

    Returns:
      points with KL = log n - (n-1)/n nats and the unbiased expectations.
    """
    import jax

    from rlhf_jax.losses import best_of_n_estimate, best_of_n_kl

    proxy, gold = np.asarray(proxy, np.float32), np.asarray(gold, np.float32)
    if proxy.shape != gold.shape or proxy.ndim != 2:
        raise InputError(f"proxy {proxy.shape} and gold {gold.shape}: expected [P, N]")
    count = proxy.shape[1]
    powers = [2**i for i in range(count.bit_length()) if 2**i <= count]
    sizes = sorted({*powers, count}) if sizes is None else list(sizes)
    estimate = jax.jit(jax.vmap(best_of_n_estimate))
    gold_at = np.asarray(estimate(proxy, gold)).mean(0)
    proxy_at = np.asarray(estimate(proxy, proxy)).mean(0)
    return [
        FrontierPoint(
            f"best of {n}",
            float(best_of_n_kl(n)),
            float(proxy_at[n - 1]),
            float(gold_at[n - 1]),
        )
        for n in sizes
    ]
