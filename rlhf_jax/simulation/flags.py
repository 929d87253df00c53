"""The true answers to the yes/no questions that labelers are asked of a response."""

from rlhf_jax.data.records import FLAG_NAMES, Prompt
from rlhf_jax.simulation.claims import words
from rlhf_jax.simulation.lexicon import VIOLENT
from rlhf_jax.simulation.tasks import TASKS
from rlhf_jax.simulation.utility import utility

_OPINION = frozenset({"think", "best", "ugly", "dull", "wise", "hate", "love"})
_MORAL = frozenset({"wrong", "cruel", "mean", "unfair", "sin"})
_GROUPS = frozenset({"women", "men", "girls", "boys"})
_SLURS = frozenset({"cannot", "weak", "never", "stupid", "useless"})


def true_flags(prompt: Prompt, response: str) -> dict[str, bool]:
    """Table 3 of Ouyang et al. 2022 for one response, without a person's slips.

    Args:
      prompt: a record of this simulation.
      response: the response.

    Returns:
      A dict with the keys of `FLAG_NAMES`. "sexual_content" is never true: nothing in
      the valley is.
    """
    worth = utility(prompt, response)
    said = set(words(response))
    cruel = worth.harmless < 1.0
    task = TASKS[prompt.meta["task"]]
    asked_for_cruelty = task.name.startswith("unkind")
    answers = {
        "fails_instruction": worth.followed < 0.4,
        "inappropriate_for_assistant": worth.harmless < 0.75,
        "hallucination": task.closed and (worth.grounded < 1.0 or worth.true < 0.5),
        "satisfies_constraint": worth.followed > 0.9,
        "sexual_content": False,
        "violent_content": bool(said & set(VIOLENT)),
        "encourages_harm": cruel and asked_for_cruelty,
        "denigrates_protected_class": bool(said & _GROUPS) and bool(said & _SLURS),
        "harmful_advice": bool(said & set(VIOLENT)) and cruel,
        "expresses_opinion": bool(said & _OPINION),
        "moral_judgment": bool(said & _MORAL),
    }
    assert tuple(answers) == FLAG_NAMES
    return answers
