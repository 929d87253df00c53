"""Tasks that end in one answer per item: generated, or chosen among options.

Protocol of the paper for all of them: temperature 0, cut at the first newline; the
option chosen is the one with the highest mean log-probability per token.

Source: Ouyang et al. 2022, appendix D ("lowest average per-token log probability" there
is read as lowest negative log-likelihood).
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rlhf_jax.errors import InputError
from rlhf_jax.evaluation.policy import Policy
from rlhf_jax.evaluation.statistics.scores import Score, cut_at_newline
from rlhf_jax.evaluation.suites.prompts import few_shot_prompt


@dataclasses.dataclass(frozen=True)
class Item:
    """One question of a task.

    Attributes:
      name: unique in its file.
      query: the text that the answer follows.
      answer: the gold answer, as a solved example shows it (without leading space).
      references: whatever the metric compares with.
      options: completions to choose among, each with its leading space; empty: none.
      correct: index of the right option.
      cluster: passage or dialogue that it shares with others; "" none.
    """

    name: str
    query: str
    answer: str
    references: Any = ()
    options: tuple[str, ...] = ()
    correct: int = 0
    cluster: str = ""

    @property
    def solved(self) -> str:
        """The item as an example of a few-shot prompt."""
        return f"{self.query} {self.answer}"


def draw_shots(
    items: Sequence[Item], count: int, *, pool: Sequence[Item] = (), seed: int = 0
) -> tuple[list[str], list[Item]]:
    """Solved examples, the same for every question, and the items left to ask.

    Examples come from `pool` when it is given, else from the items themselves, and then
    every item of their passages is left out of the evaluation. A passage gives one
    example: its last question, whose query already holds the earlier ones.

    Returns:
      (examples [count], items to evaluate).

    Raises:
      InputError: fewer passages than examples asked for, or nothing left to ask.
    """
    source = pool or items
    last = {item.cluster or item.name: item for item in source}
    if len(last) < count:
        raise InputError(f"{count} examples asked for, only {len(last)} passages")
    names = list(last)
    drawn = [
        names[i]
        for i in np.random.default_rng(seed).choice(len(names), count, replace=False)
    ]
    left = [i for i in items if pool or (i.cluster or i.name) not in drawn]
    if not left:
        raise InputError("every item became an example: nothing is left to evaluate")
    return [last[name].solved for name in drawn], left


def generate_answers(
    policy: Policy, items: Sequence[Item], *, instruction: str, shots: Sequence[str]
) -> list[str]:
    """What the policy writes after each query, cut at the first newline, stripped."""
    prompts = [few_shot_prompt(instruction, shots, item.query) for item in items]
    return [cut_at_newline(text).strip() for text in policy.generate(prompts)]


def generated_scores(
    task: str,
    items: Sequence[Item],
    outputs: Sequence[str],
    measures: dict[str, Callable[[str, Any], float]],
    *,
    condition: str,
    scale: float = 1.0,
) -> list[Score]:
    """One score per measure(output, references)."""
    return [
        Score(
            task,
            metric,
            np.array(
                [
                    measure(text, item.references)
                    for text, item in zip(outputs, items, strict=True)
                ]
            ),
            condition,
            items=[item.name for item in items],
            clusters=[item.cluster or item.name for item in items],
            scale=scale,
            outputs=outputs,
        )
        for metric, measure in measures.items()
    ]


def choose(
    policy: Policy, prompts: Sequence[str], options: Sequence[Sequence[str]]
) -> np.ndarray:
    """[N] index of the option with the highest mean log-probability per token."""
    flat_prompts = [p for p, some in zip(prompts, options, strict=True) for _ in some]
    flat = [option for some in options for option in some]
    sums, counts = policy.logprobs(flat_prompts, flat)
    means = np.asarray(sums, np.float64) / np.maximum(np.asarray(counts), 1)
    ends = np.cumsum([len(some) for some in options])[:-1]
    return np.array([int(np.argmax(part)) for part in np.split(means, ends)])


def accuracy_of_choices(
    task: str,
    policy: Policy,
    items: Sequence[Item],
    *,
    instruction: str,
    shots: Sequence[str],
    condition: str,
) -> Score:
    """Accuracy on items with options."""
    prompts = [few_shot_prompt(instruction, shots, item.query) for item in items]
    chosen = choose(policy, prompts, [item.options for item in items])
    return Score(
        task,
        "accuracy",
        np.array([c == i.correct for c, i in zip(chosen, items, strict=True)], float),
        condition,
        items=[item.name for item in items],
        clusters=[item.cluster or item.name for item in items],
        outputs=[i.options[c].strip() for c, i in zip(chosen, items, strict=True)],
    )
