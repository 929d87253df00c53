"""The rows of rankings and preferences: part of `table.ROWS`."""

import functools

import numpy as np
import oracles
from loss_row import LOG2, draw_ranking, normal, row

from rlhf_jax import losses


def of_batch(*names):
    return lambda rng, b, r: {name: normal(rng, b) for name in names}


row(
    "ranking_loss",
    lambda **a: losses.ranking_loss(**a),
    draw_ranking,
    oracles.ranking_loss,
    # Pairs (0,2): log(1 + e^-1), (1,2): log 2; 0 and 1 are tied; 3 is padding.
    (
        {
            "scores": [[1.0, 0.0, 0.0, 7.0]],
            "ranks": [[1, 1, 2, 1]],
            "valid": [[True, True, True, False]],
        },
        [(0.3133 + LOG2) / 2],
    ),
    mask="valid",
    unequal=("scores", "ranks"),
)
row(
    "pairwise_ranking_loss",
    lambda **a: losses.pairwise_ranking_loss(**a),
    of_batch("chosen", "rejected"),
    oracles.pairwise_ranking_loss,
    ({"chosen": [1.0], "rejected": [0.0]}, [0.3133]),
    unequal=("chosen", "rejected"),
)


def draw_soft_ranking(rng, b, r):
    # Up to a fifth: the contract multiplies every number by up to 5.
    preferences = rng.uniform(0, 0.2, size=(b, r + 1, r + 1))
    pairs = np.triu(np.ones((r + 1, r + 1), bool), 1) & (
        rng.random((b, r + 1, r + 1)) < 0.8
    )
    return {"scores": normal(rng, b, r + 1), "preferences": preferences, "pairs": pairs}


row(
    "soft_ranking_loss",
    lambda **a: losses.soft_ranking_loss(**a),
    draw_soft_ranking,
    oracles.soft_ranking_loss,
    # One pair, r_1 - r_0 = 1, p = 1/4: 1/4 · log(1 + e^-1) + 3/4 · log(1 + e).
    (
        {
            "scores": [[0.0, 1.0]],
            "preferences": [[[9.0, 9.0], [0.25, 9.0]]],
            "pairs": [[[False, False], [True, False]]],
        },
        [0.3133 / 4 + 1.3133 * 3 / 4],
    ),
    mask="pairs",
    unequal=("scores", "preferences"),
)
DPO = ("chosen_logprobs", "rejected_logprobs")
DPO = (*DPO, *(f"ref_{name}" for name in DPO))
# (-1 - -2) - (-4 - -3) = 2
DPO_BY_HAND = dict(zip(DPO, ([-1.0], [-4.0], [-2.0], [-3.0]), strict=True))
row(
    "dpo_loss",
    lambda **a: losses.dpo_loss(**a, beta=0.5),
    of_batch(*DPO),
    lambda **a: oracles.dpo_loss(*(a[name] for name in DPO), beta=0.5),
    (DPO_BY_HAND, [0.3133]),
    unequal=DPO[:2],
)
for name, robust, by_hand in (
    # h = 0.5 · 2: 0.9 · 0.3133 + 0.1 · 1.3133, and (0.9 · 0.3133 - 0.1 · 1.3133) / 0.8
    ("conservative", False, 0.4133),
    ("robust", True, 0.1883),
):
    row(
        f"dpo_loss_{name}",
        lambda robust=robust, **a: losses.dpo_loss(
            **a, beta=0.5, label_smoothing=0.1, robust=robust
        ),
        of_batch(*DPO),
        lambda robust=robust, **a: oracles.noisy_dpo_loss(
            *(a[name] for name in DPO), beta=0.5, flipped=0.1, robust=robust
        ),
        (DPO_BY_HAND, [by_hand]),
        unequal=DPO[:2],
    )
row(
    "ipo_loss",
    lambda **a: losses.ipo_loss(**a, beta=0.5),
    of_batch(*DPO),
    lambda **a: oracles.ipo_loss(*(a[name] for name in DPO), beta=0.5),
    # (2 - 1)²
    (DPO_BY_HAND, [1.0]),
    unequal=DPO[:2],
)
KTO = {
    "beta": 0.5,
    "kl_baseline": 0.4,
    "desirable_weight": 1.5,
    "undesirable_weight": 2.0,
}
row(
    "kto_loss",
    lambda **a: losses.kto_loss(**a, **KTO),
    lambda rng, b, r: {
        **of_batch("logprobs", "ref_logprobs")(rng, b, r),
        "desirable": rng.random(b) < 0.5,
    },
    functools.partial(oracles.kto_loss, **KTO),
    # ±0.5 · (2.4 - 0.4): 1.5 (1 - σ(1)) where good, 2 (1 - σ(-1)) where bad.
    (
        {
            "logprobs": [-1.0, -1.0],
            "ref_logprobs": [-3.4, -3.4],
            "desirable": [True, False],
        },
        [1.5 * 0.26894, 2 * 0.73106],
    ),
    unequal=("logprobs", "ref_logprobs"),
)
MEANS = ("chosen_mean_logprobs", "rejected_mean_logprobs")
SIMPO = {"beta": 2.0, "margin": 0.5}
row(
    "simpo_loss",
    lambda **a: losses.simpo_loss(**a, **SIMPO),
    of_batch(*MEANS),
    lambda **a: oracles.simpo_loss(*(a[name] for name in MEANS), **SIMPO),
    # 2 · 0.75 - 0.5 = 1
    (dict(zip(MEANS, ([-1.0], [-1.75]), strict=True)), [0.3133]),
    unequal=MEANS,
)
row(
    "orpo_loss",
    lambda **a: losses.orpo_loss(**a, odds_weight=0.3),
    lambda rng, b, r: {name: -abs(normal(rng, b)) - 0.05 for name in MEANS},
    lambda **a: oracles.orpo_loss(*(a[name] for name in MEANS), odds_weight=0.3),
    # Odds 3 and 1/3, their ratio 9: -log(3/4) - 0.3 · log(9/10)
    (dict(zip(MEANS, np.log([[0.75], [0.25]]), strict=True)), [0.2877 + 0.3 * 0.10536]),
    unequal=MEANS,
)
