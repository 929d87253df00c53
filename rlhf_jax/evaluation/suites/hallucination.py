"""Closed-domain hallucination: does an answer add what its passage does not say.

The paper counts it on prompts whose answer must come from the prompt alone (closed QA,
summaries, extraction): 21 % for InstructGPT against 41 % for GPT-3, by labelers. Here a
detector decides (the embedded world has an exact one), or the labels of a file.

In a chat template the prompt is the turn of the user, the answer is the assistant's.

Source: Ouyang et al. 2022, section 4.1 and figure 4.
"""

import os
from collections.abc import Callable, Sequence

import numpy as np

from rlhf_jax.evaluation.policy import Policy
from rlhf_jax.evaluation.statistics.scores import Score
from rlhf_jax.evaluation.suites.files import read_rows

Detector = Callable[[str, str], float]

_YES_NO = {True: 1.0, False: 0.0, "1": 1.0, "0": 0.0, "true": 1.0, "false": 0.0}


def hallucination_scores(
    policy: Policy, prompts: Sequence[str], detector: Detector
) -> list[Score]:
    """Share of answers that invent something.

    Args:
      policy: who answers, whole responses, temperature 0.
      prompts: closed-domain prompts.
      detector: (prompt, response) -> 1 where something is invented, else 0.
    """
    outputs = list(policy.generate(prompts))
    found = [float(detector(p, o)) for p, o in zip(prompts, outputs, strict=True)]
    return [
        Score(
            "hallucination",
            "rate",
            np.array(found),
            items=prompts,
            higher_is_better=False,
            outputs=outputs,
        )
    ]


def labelled_hallucination(source: str | os.PathLike) -> dict[str, list[Score]]:
    """The rate per policy from a file of labels.

    Args:
      source: rows of `policy`, `prompt` and `hallucination` (true/false or 1/0);
        several labels of one prompt are resampled together.

    Returns:
      policy -> its score, in the order of the file.
    """
    rows: dict[str, list[tuple[str, float]]] = {}
    for row in read_rows(source, columns=("policy", "prompt", "hallucination")):
        label = row.choice("hallucination", _YES_NO)
        rows.setdefault(row.text("policy"), []).append((row.text("prompt"), label))
    return {
        policy: [
            Score(
                "hallucination",
                "rate",
                np.array([label for _, label in labels]),
                items=[f"{prompt} #{n}" for n, (prompt, _) in enumerate(labels)],
                clusters=[prompt for prompt, _ in labels],
                higher_is_better=False,
            )
        ]
        for policy, labels in rows.items()
    }
