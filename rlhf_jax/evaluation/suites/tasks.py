"""Tasks that end in one answer per item: written, or chosen among options.

Protocol of the paper for all of them: temperature 0, cut at the first newline; the
option chosen is the one with the highest mean log-probability per token.

In a chat template, instruction, solved examples and query are one turn of the user, as
they were one prompt to InstructGPT; the answer, and each option, is the assistant's.

Source: Ouyang et al. 2022, appendix D ("lowest average per-token log probability" there
is read as lowest negative log-likelihood).
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rlhf_jax.errors import InputError
from rlhf_jax.evaluation.policy import Policy, logprobs_of
from rlhf_jax.evaluation.statistics.scores import Score


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

    @property
    def passage(self) -> str:
        """What is resampled together: the shared passage, else the item itself."""
        return self.cluster or self.name


Measures = dict[str, Callable[[str, Any], float]]
# (task, items, outputs, condition) -> scores
Scoring = Callable[[str, Sequence[Item], Sequence[str], str], list[Score]]


def draw_shots(
    items: Sequence[Item], count: int, *, pool: Sequence[Item] = (), seed: int = 0
) -> tuple[list[str], list[Item]]:
    """Solved examples, the same for every question, and the items left to ask.

    Examples come from `pool` when it is given, else from the items themselves, and then
    every item of their passages is left out of the evaluation. A passage gives one
    example: its last question, whose query already holds the earlier ones. An item
    without a gold answer (WSC's false ones) cannot be an example.

    Returns:
      (examples [count], items to evaluate).

    Raises:
      InputError: fewer passages than examples asked for, or nothing left to ask.
    """
    source = [item for item in pool or items if item.answer]
    last = {item.passage: item for item in source}
    if len(last) < count:
        raise InputError(f"{count} examples asked for, only {len(last)} passages")
    rng, names = np.random.default_rng(seed), list(last)
    drawn = rng.choice(len(names), count, replace=False)
    shots = [last[names[i]].solved for i in drawn]
    shown = {item.passage for item in source if item.solved in shots}
    left = [item for item in items if pool or item.passage not in shown]
    if not left:
        raise InputError("every item became an example: nothing is left to evaluate")
    return shots, left


def measured(measures: Measures, *, scale: float = 1.0) -> Scoring:
    """Scores what was written by one measure(output, references) per metric."""

    def score(task, items, outputs, condition):
        pairs = list(zip(outputs, (i.references for i in items), strict=True))
        return [
            Score(
                task,
                metric,
                np.array([measure(*pair) for pair in pairs]),
                condition,
                items=[item.name for item in items],
                clusters=[item.passage for item in items],
                scale=scale,
                outputs=outputs,
            )
            for metric, measure in measures.items()
        ]

    return score


def f1_and_match(em_f1: Callable[[str, Any], tuple[float, float]]) -> Scoring:
    """F1 and exact match, in percent, of (output, references) -> (match, F1)."""
    measures = {
        "F1": lambda text, references: em_f1(text, references)[1],
        "exact match": lambda text, references: em_f1(text, references)[0],
    }
    return measured(measures, scale=100.0)


def choose(
    policy: Policy, prompts: Sequence[str], options: Sequence[Sequence[str]]
) -> np.ndarray:
    """[N] index of the option with the highest mean log-probability per token."""
    flat_prompts = [p for p, some in zip(prompts, options, strict=True) for _ in some]
    flat = [option for some in options for option in some]
    sums, counts = logprobs_of(policy, flat_prompts, flat)
    means = sums / np.maximum(counts, 1)
    ends = np.cumsum([len(some) for some in options])[:-1]
    return np.array([int(np.argmax(part)) for part in np.split(means, ends)])


def accuracy_of_choices(
    task: str,
    policy: Policy,
    items: Sequence[Item],
    prompts: Sequence[str],
    condition: str,
) -> Score:
    """Accuracy on items with options, each asked by its prompt."""
    chosen = choose(policy, prompts, [item.options for item in items])
    return Score(
        task,
        "accuracy",
        np.array([c == i.correct for c, i in zip(chosen, items, strict=True)], float),
        condition,
        items=[item.name for item in items],
        clusters=[item.passage for item in items],
        outputs=[i.options[c].strip() for c, i in zip(chosen, items, strict=True)],
    )
