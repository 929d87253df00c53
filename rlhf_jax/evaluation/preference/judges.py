"""Judges: who decides which of two responses is better.

Each function returns `judge(prompts, first, second) -> [N]`, 1 where the first is
preferred, 0 the second, 0.5 for a tie. Behind one may stand a score (gold utility,
reward model), people's labels in a file, or a language model behind an HTTP endpoint
(`endpoint.py`).
"""

import os
from collections.abc import Callable, Sequence

import numpy as np

from rlhf_jax.errors import InputError
from rlhf_jax.evaluation.preference.win_rates import Judge, shown
from rlhf_jax.evaluation.suites.files import read_rows


def judge_from_scores(
    score: Callable[[Sequence[str], Sequence[str]], np.ndarray],
    *,
    tie_margin: float = 0.0,
) -> Judge:
    """Prefers the response that scores higher.

    Args:
      score: (prompts [N], responses [N]) -> [N]; a gold utility or a reward model.
      tie_margin: differences up to this (in the score's unit) are ties.

    Raises:
      InputError: when judging, if a score is not finite.
    """

    def judge(prompts, first, second):
        a = np.asarray(score(prompts, first), np.float64)
        b = np.asarray(score(prompts, second), np.float64)
        bad = ~(np.isfinite(a) & np.isfinite(b))
        if bad.any():
            row = int(np.argmax(bad))
            raise InputError(
                f"prompt {row} ({shown(prompts[row])!r}): the responses scored "
                f"{a[row]} and {b[row]}; expected finite numbers"
            )
        return np.where(abs(a - b) <= tie_margin, 0.5, (a > b).astype(float))

    return judge


def judge_from_labels(path: str | os.PathLike) -> Judge:
    """Looks verdicts up in a file of people's labels.

    The file (.jsonl, .csv or .tsv) has the columns `prompt`, `left`, `right` and
    `winner` (left, right or tie). Several labels of one pair are averaged, and a pair
    is found in either order.

    Raises:
      InputError: a bad file, with the line; when judging, a pair without a label.
    """
    winners = {"left": 1.0, "right": 0.0, "tie": 0.5}
    labels: dict[tuple[str, str, str], list[float]] = {}
    for row in read_rows(path, columns=("prompt", "left", "right", "winner")):
        prompt = row.text("prompt")
        left, right = row.text("left", empty=True), row.text("right", empty=True)
        verdict = row.choice("winner", winners)
        labels.setdefault((prompt, left, right), []).append(verdict)
        labels.setdefault((prompt, right, left), []).append(1 - verdict)

    def judge(prompts, first, second):
        verdicts = []
        for key in zip(prompts, first, second, strict=True):
            if key not in labels:
                raise InputError(
                    f"{path}: no label for the prompt {key[0][:40]!r} with the "
                    f"responses {key[1][:40]!r} and {key[2][:40]!r}"
                )
            verdicts.append(np.mean(labels[key]))
        return np.array(verdicts)

    return judge
