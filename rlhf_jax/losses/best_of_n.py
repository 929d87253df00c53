"""Best-of-n sampling: draw n responses, keep the one the reward model likes best.

The cheapest optimiser against a reward model, and the yardstick for PPO: both its KL
and its expected true reward are known from one set of samples.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from rlhf_jax.losses.arguments import real, same_shape


def best_of_n_kl(n: int | Shaped[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The KL of best-of-n to the policy it draws from.

        KL(π_bon ‖ π) = log n - (n - 1)/n

    Exact where no two responses tie; an upper bound where they can, as texts do when
    the policy is nearly certain (Beirami et al. 2024).

    Args:
      n: responses per prompt, ≥ 1.

    Returns:
      float32, nats per episode; 0 for n = 1, NaN for n < 1 in a traced array.

    Raises:
      ValueError: n < 1.

    Source: Stiennon et al. 2020, App. G.3; Gao et al. 2022.

    >>> [round(best_of_n_kl(n).item(), 2) for n in (1, 64, 1000)]
    [0.0, 3.17, 5.91]
    """
    if isinstance(n, int) and n < 1:
        raise ValueError(f"n is {n}: expected at least 1")
    n = jnp.asarray(n).astype(jnp.float32)
    return jnp.where(n >= 1, jnp.log(n) - (n - 1) / n, jnp.nan)


def best_of_n_estimate(
    proxy: Float[Array, " N"], gold: Float[Array, " N"]
) -> Float[Array, " N"]:
    """The expected gold reward of best-of-n for every n at once, without bias.

        R(n) = Σ_{i=n}^{N} C(i-1, n-1) / C(N, n) · gold(y_i)

    with the samples in rising order of proxy.

    The average, over all ways to choose n of the N samples, of the gold reward of the
    one with the best proxy. Samples with equal proxy share their mean gold, so that
    the order of the samples never matters.

    Args:
      proxy: what the choice is made by (the reward model), of N samples of a prompt.
      gold: what the result is judged by, of the same samples.

    Returns:
      float32, in the unit of `gold`; entry n-1 is R(n): the first is the mean of
      `gold`, the last the gold of the best proxy. NaN if any proxy is NaN.

    Raises:
      ValueError: the shapes differ or are not [N].
      TypeError: integer arguments.

    Source: Nakano et al. 2021 (WebGPT); Coste et al. 2023, Eq. 8.

    >>> proxy, gold = jnp.array([1.0, 3.0, 2.0]), jnp.array([0.0, 3.0, 6.0])
    >>> best_of_n_estimate(proxy, gold).round(3).tolist()
    [3.0..., 4.0..., 3.0...]
    """
    proxy, gold = real(proxy=proxy, gold=gold)
    same_shape(proxy=proxy, gold=gold)
    if proxy.ndim != 1 or proxy.size == 0:
        raise ValueError(f"proxy has shape {proxy.shape}: expected [N] with N > 0")
    ordered = _gold_by_proxy(proxy, gold)
    size = proxy.shape[0]
    rank = jnp.arange(1, size + 1).astype(proxy.dtype)

    def one_more(weights: Array, n: Array) -> tuple[Array, Array]:
        # C(i-1, n) / C(i-1, n-1) = (i - n) / n, and likewise below the bar: a ratio
        # of neighbours never overflows, as the binomials would.
        ratio = (rank - n) / n * ((n + 1) / jnp.maximum(size - n, 1))
        return weights * jnp.maximum(ratio, 0), jnp.sum(weights * ordered)

    first = jnp.full((size,), 1 / size, proxy.dtype)
    estimate = jax.lax.scan(one_more, first, rank)[1]
    return jnp.where(jnp.any(jnp.isnan(proxy)), jnp.nan, estimate)


def _gold_by_proxy(proxy: Array, gold: Array) -> Array:
    """Gold in rising order of proxy, equal proxies sharing their mean."""
    order = jnp.argsort(proxy)
    proxy, gold = proxy[order], gold[order]
    starts = jnp.concatenate([jnp.zeros(1, bool), proxy[1:] != proxy[:-1]])
    group = jnp.cumsum(starts.astype(jnp.int32))
    size = proxy.shape[0]
    total = jax.ops.segment_sum(gold, group, size)
    count = jax.ops.segment_sum(jnp.ones_like(gold), group, size)
    return total[group] / count[group]
