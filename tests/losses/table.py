"""The table of losses: adding a loss adds a row, and the contract suite runs over it.

A row names the arrays that go in and the settings, says what an oracle makes of them
(float64 loops of `oracles`), and gives one example worked by hand. Every array's first
axis is the batch; `shared` names the weights that belong to no example. The rows of
rankings and preferences are those of `table_of_preferences`.
"""

import functools

import numpy as np
import oracles
import table_of_preferences  # noqa: F401  (its rows join the table)
from loss_row import (
    LOG2,
    ROWS,
    VOCABULARY,
    draw_episode,
    draw_group,
    draw_hidden,
    draw_logits,
    draw_two_models,
    mask_of,
    normal,
    row,
    several,
    tokens_of,
)

from rlhf_jax import losses

PROJECTION = {"temperature": 0.7, "soft_cap": 2.0}
row(
    "token_logprobs",
    lambda **a: losses.token_logprobs(**a),
    lambda rng, b, r: {
        "logits": normal(rng, b, r, VOCABULARY),
        "tokens": tokens_of(rng, b, r),
    },
    oracles.token_logprobs,
    ({"logits": [[[0.0, np.log(3.0)]]], "tokens": [[1]]}, [[-0.2877]]),
    unequal=("tokens", "logits"),
)
row(
    "next_token_logprobs",
    lambda **a: losses.next_token_logprobs(**a),
    lambda rng, b, r: {
        "logits": normal(rng, b, r + 1, VOCABULARY),
        "tokens": tokens_of(rng, b, r + 1),
    },
    oracles.next_token_logprobs,
    (
        {"logits": [[[0.0, np.log(3.0)], [9.0, 0.0]]], "tokens": [[0, 1]]},
        [[-0.2877]],
    ),
    shift=1,
    unequal=("tokens", "logits"),
)
row(
    "next_token_loss",
    lambda **a: losses.next_token_loss(**a),
    ROWS["next_token_logprobs"].draw,
    lambda **a: -oracles.next_token_logprobs(**a),
    (
        {"logits": [[[0.0, np.log(3.0)], [9.0, 0.0]]], "tokens": [[0, 1]]},
        [[0.2877]],
    ),
    shift=1,
    unequal=("tokens", "logits"),
)
row(
    "entropy",
    lambda **a: losses.entropy(**a),
    draw_logits("logits"),
    oracles.entropy,
    ({"logits": [[[0.0, 0.0]]]}, [[LOG2]]),
)
row(
    "exact_kl",
    lambda **a: losses.exact_kl(**a),
    draw_logits("logits", "ref_logits"),
    oracles.exact_kl,
    # ¾ log(¾ / ½) + ¼ log(¼ / ½)
    ({"logits": [[[0.0, np.log(3.0)]]], "ref_logits": [[[0.0, 0.0]]]}, [[0.1308]]),
    unequal=("logits", "ref_logits"),
)
for kind, by_hand in (("k1", -0.5), ("k2", 0.125), ("k3", 0.1487)):
    row(
        f"kl_estimate_{kind}",
        lambda kind=kind, **a: losses.kl_estimate(**a, kind=kind),
        several("logprobs", "ref_logprobs"),
        functools.partial(oracles.kl_estimate, kind=kind),
        ({"logprobs": [[-1.5]], "ref_logprobs": [[-1.0]]}, [[by_hand]]),
        unequal=("logprobs", "ref_logprobs"),
    )
row(
    "shaped_rewards",
    lambda **a: losses.shaped_rewards(**a, kl_coef=0.3),
    lambda rng, b, r: {
        "scores": normal(rng, b),
        **several("logprobs", "ref_logprobs")(rng, b, r),
        "mask": mask_of(rng, b, r),
    },
    functools.partial(oracles.shaped_rewards, kl_coef=0.3),
    # -0.3 · 1, then -0.3 · -2 + the score, then padding.
    (
        {
            "scores": [0.73],
            "logprobs": [[-1.0, -4.0, -1.0]],
            "ref_logprobs": [[-2.0, -2.0, -8.0]],
            "mask": [[True, True, False]],
        },
        [[-0.3, 1.33, 0.0]],
    ),
    mask="mask",
    unequal=("logprobs", "ref_logprobs"),
)


GAE = {"discount": 0.9, "gae_lambda": 0.8}
GAE_BY_HAND = {
    "rewards": [[1.0, 2.0, 5.0]],
    "values": [[0.5, 1.0, 5.0]],
    "mask": [[True, True, False]],
}
# δ_1 = 2 - 1 = 1;  δ_0 = 1 + 0.9 · 1 - 0.5 = 1.4;  Â_0 = 1.4 + 0.72 · 1
for index, name, by_hand in (
    (0, "generalized_advantages", [[2.12, 1.0, 0.0]]),
    (1, "generalized_returns", [[2.62, 2.0, 0.0]]),
):
    row(
        name,
        lambda index=index, **a: losses.generalized_advantages(**a, **GAE)[index],
        draw_episode,
        lambda index=index, **a: oracles.generalized_advantages(**a, **GAE)[index],
        (GAE_BY_HAND, by_hand),
        mask="mask",
        forward_looking=True,
        unequal=("rewards", "values"),
    )
row(
    "discounted_returns",
    lambda **a: losses.discounted_returns(**a, discount=0.9),
    lambda rng, b, r: {"rewards": normal(rng, b, r), "mask": mask_of(rng, b, r)},
    functools.partial(oracles.discounted_returns, discount=0.9),
    ({"rewards": [[1.0, 2.0, 5.0]], "mask": [[True, True, False]]}, [[2.8, 2.0, 0.0]]),
    mask="mask",
    forward_looking=True,
    unequal=("rewards", "mask"),
)
# Of 1, 2, 6: the mean of the others 4, 3.5, 1.5; of all 3, the deviation √7. The 9 is
# no response; 5 is alone; 4 and 4 are equal.
GROUPS = {
    "scores": [[1.0, 2.0, 9.0, 6.0], [5.0, 9.0, 9.0, 9.0], [4.0, 4.0, 9.0, 9.0]],
    "valid": [
        [True, True, False, True],
        [True, *[False] * 3],
        [True, True, *[False] * 2],
    ],
}
for name, function, settings, by_hand in (
    ("leave_one_out_advantages", "leave_one_out_advantages", {}, [-3, -1.5, 0, 4.5]),
    ("group_advantages", "group_advantages", {}, [-0.7559, -0.3780, 0, 1.1338]),
    ("group_advantages_unscaled", "group_advantages", {"scale": False}, [-2, -1, 0, 3]),
):
    row(
        name,
        lambda function=function, settings=settings, **a: getattr(losses, function)(
            **a, **settings
        ),
        draw_group,
        getattr(oracles, name),
        (GROUPS, [by_hand, [0.0] * 4, [0.0] * 4]),
        mask="valid",
        forward_looking=True,
        unequal=("scores", "valid"),
    )
row(
    "clipped_policy_loss",
    lambda **a: losses.clipped_policy_loss(**a, clip_range=0.2),
    several("logprobs", "old_logprobs", "advantages"),
    functools.partial(oracles.clipped_policy_loss, clip_range=0.2),
    (
        {
            "logprobs": np.log([[1.5, 1.5, 0.5, 0.5, 1.1]]),
            "old_logprobs": [[0.0, 0.0, 0.0, 0.0, 0.0]],
            "advantages": [[1.0, -1.0, 1.0, -1.0, 2.0]],
        },
        [[-1.2, 1.5, -0.5, 0.8, -2.2]],
    ),
    unequal=("logprobs", "old_logprobs"),
)
row(
    "clipped_value_loss",
    lambda **a: losses.clipped_value_loss(**a, clip_range=0.2),
    several("values", "old_values", "returns"),
    functools.partial(oracles.clipped_value_loss, clip_range=0.2),
    # Far step, clipped to 0.2: 0.8² / 2; step within: 0.9² / 2; away: 2² / 2.
    (
        {
            "values": [[1.0, 0.1, -1.0]],
            "old_values": [[0.0, 0.0, 0.0]],
            "returns": [[1.0, 1.0, 1.0]],
        },
        [[0.32, 0.405, 2.0]],
    ),
    unequal=("values", "old_values"),
)
for index, (name, by_hand) in enumerate(
    (("mean", 2.0), ("min", 1.0), ("uncertainty_weighted", 1.5))
):
    row(
        f"ensemble_{name}",
        lambda name=name, **a: getattr(losses, f"ensemble_{name}")(
            a["scores"].T,
            **({"variance_coef": 0.5} if name == "uncertainty_weighted" else {}),
        ),
        lambda rng, b, r: {"scores": normal(rng, b, 3)},
        lambda index=index, **a: oracles.ensemble(**a, variance_coef=0.5)[index],
        ({"scores": [[1.0, 3.0]]}, [by_hand]),
    )


def chunked(statistic):
    return lambda **a: getattr(
        losses.chunked_logprobs(**a, **PROJECTION, chunk_size=3, with_entropy=True),
        statistic,
    )


def chunked_oracle(statistic):
    def run(hidden, unembedding, bias, tokens):
        logits = oracles.projected(hidden, unembedding, bias, **PROJECTION)
        if statistic == "entropy":
            return oracles.entropy(logits)
        return oracles.token_logprobs(logits, tokens)

    return run


# 2 tanh(log 3 / 2) / 0.7 = 2 · ½ / 0.7 = 1.4286 more for word 1 than for word 0.
PROJECTED = {
    "hidden": [[[1.0]]],
    "unembedding": [[0.0], [np.log(3.0)]],
    "bias": [0.0, 0.0],
    "tokens": [[1]],
}
for statistic, by_hand in (("logprobs", -0.2148), ("entropy", 0.4910)):
    row(
        f"chunked_{statistic}",
        chunked(statistic),
        lambda rng, b, r: {**draw_hidden(rng, b, r), "tokens": tokens_of(rng, b, r)},
        chunked_oracle(statistic),
        (PROJECTED, [[by_hand]]),
        shared=("unembedding", "bias"),
        float32_only=True,
        unequal=("tokens", "hidden"),
    )


row(
    "chunked_exact_kl",
    lambda **a: losses.chunked_exact_kl(**a, **PROJECTION, chunk_size=3),
    draw_two_models,
    lambda **a: oracles.exact_kl(
        *(
            oracles.projected(
                *(a[p + n] for n in ("hidden", "unembedding", "bias")), **PROJECTION
            )
            for p in ("", "ref_")
        )
    ),
    (
        {
            **{k: v for k, v in PROJECTED.items() if k != "tokens"},
            "ref_hidden": [[[0.0]]],
            "ref_unembedding": [[0.0], [0.0]],
            "ref_bias": [0.0, 0.0],
        },
        [[LOG2 - 0.4910]],
    ),
    shared=("unembedding", "bias", "ref_unembedding", "ref_bias"),
    float32_only=True,
    unequal=("hidden", "ref_hidden"),
)


def told(logprobs, ref_logprobs, entropy, kl):
    """The four arrays of a comparison as one that depends on each."""
    return kl + logprobs / 2 + ref_logprobs / 4 + entropy / 8


def comparison_oracle(tokens, **a):
    ours, theirs = (
        oracles.projected(
            a[p + "hidden"],
            a[p + "unembedding"],
            np.zeros(len(a[p + "unembedding"])),
            **PROJECTION,
        )
        for p in ("", "ref_")
    )
    return told(
        oracles.token_logprobs(ours, tokens),
        oracles.token_logprobs(theirs, tokens),
        oracles.entropy(ours),
        oracles.exact_kl(ours, theirs),
    )


row(
    "chunked_comparison",
    lambda **a: told(*losses.chunked_comparison(**a, **PROJECTION, chunk_size=3)),
    lambda rng, b, r: {
        **{k: v for k, v in draw_two_models(rng, b, r).items() if "bias" not in k},
        "tokens": tokens_of(rng, b, r),
    },
    comparison_oracle,
    (
        {
            **{k: v for k, v in PROJECTED.items() if k != "bias"},
            "ref_hidden": [[[0.0]]],
            "ref_unembedding": [[0.0], [0.0]],
        },
        [[LOG2 - 0.4910 - 0.2148 / 2 - LOG2 / 4 + 0.4910 / 8]],
    ),
    shared=("unembedding", "ref_unembedding"),
    float32_only=True,
    unequal=("hidden", "ref_hidden"),
)
