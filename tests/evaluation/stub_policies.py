"""Policies made of plain functions."""

import numpy as np

from rlhf_jax.evaluation.policy import Policy


def stub(answer, *, name="stub", logprob=None) -> Policy:
    """A policy that writes `answer(prompt)`; texts cost 1 nat per character."""

    def logprobs(prompts, completions):
        cost = logprob or (lambda p, c: -float(len(c)))
        sums = [cost(p, c) for p, c in zip(prompts, completions, strict=True)]
        return np.array(sums), np.array([len(c) for c in completions])

    return Policy(
        name,
        generate=lambda prompts: [answer(p) for p in prompts],
        logprobs=logprobs,
        sample=lambda prompts, seed: [f"{answer(p)} {seed}" for p in prompts],
        is_greedy=lambda ps, cs: np.array(
            [answer(p) == c for p, c in zip(ps, cs, strict=True)]
        ),
    )
