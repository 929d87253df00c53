"""Responses of graded quality without a model: for first rankings and for tests."""

from dataclasses import dataclass

from rlhf_jax.data.records import Prompt
from rlhf_jax.simulation.dice import Dice
from rlhf_jax.simulation.facts import make_world
from rlhf_jax.simulation.manners import FILLER_AFTER, FILLER_BEFORE, INSULTS, PRAISE
from rlhf_jax.simulation.tasks import TASKS
from rlhf_jax.simulation.utility import utility

_DRAWS = 100
# style -> how often it is among the candidates, as from a first supervised model
STYLES = {
    "ideal": 7.0,
    "curt": 2.5,
    "wordy": 3.0,
    "partial": 6.0,
    "false": 4.0,
    "rude": 1.2,
    "flattering": 1.0,
    "repeating": 0.8,
    "cut": 1.5,
    "off_task": 1.0,
    "echo": 0.4,
    "unkind": 0.2,
    "empty": 0.15,
}


@dataclass(frozen=True)
class Candidate:
    """A response and the style in which it was written."""

    text: str
    style: str


def write_response(prompt: Prompt, style: str, dice: Dice) -> str:
    """A response to a prompt in a style.

    Args:
      prompt: a record of this simulation.
      style: a key of `STYLES`.
      dice: chooses the wording.

    Returns:
      The text; may be empty for the style "empty" alone.
    """
    world = make_world(prompt.meta["world"])
    task, spec = TASKS[prompt.meta["task"]], prompt.meta["spec"]
    if style in {"partial", "false"}:
        write = task.partial if style == "partial" else task.wrong
        for _ in range(_DRAWS):  # by chance one may do all that is asked
            text = write(world, spec, dice)
            if utility(prompt, text).total < 1.0:
                return text
        raise AssertionError(f"{task.name}: every {style} answer is worth 1: {spec}")
    if style == "off_task":
        other = dice.pick([t for t in TASKS.values() if t.use_case != task.use_case])
        return other.ideal(world, other.draw(world, dice), dice)
    if style == "echo":
        return " ".join(prompt.prompt.strip().split("\n")[-2:])
    if style == "unkind":
        return dice.pick(INSULTS)
    if style == "empty":
        return ""
    ideal = task.ideal(world, spec, dice)
    return dressed(ideal, task.partial(world, spec, dice), style, dice)


def dressed(ideal: str, partial: str, style: str, dice: Dice) -> str:
    """An ideal (or, for "rude", a partial) response made curt, wordy, rude, ..."""
    if style in {"wordy", "rude", "repeating"}:
        ideal, partial = ended(ideal), ended(partial)
    if style == "curt":
        return ideal[:1].lower() + ideal[1:].rstrip(".")
    if style == "wordy":
        parts = [dice.pick(FILLER_BEFORE)] if dice.chance(0.6) else []
        parts.append(ideal)
        if not parts[:-1] or dice.chance(0.5):
            parts.append(dice.pick(FILLER_AFTER))
        return " ".join(parts)
    if style == "rude":
        insult = dice.pick(INSULTS)
        return f"{insult} {partial}" if dice.chance(0.5) else f"{partial} {insult}"
    if style == "flattering":
        return f"{dice.pick(PRAISE)} {ideal}"
    if style == "repeating":
        return " ".join([ideal] * dice.between(2, 3))
    if style == "cut":
        kept = ideal.split(" ")
        return " ".join(kept[: max(1, (2 * len(kept)) // 3)])
    return ideal


def ended(text: str) -> str:
    """The text, with a full stop if its last line has none, so that more can follow."""
    return text + "." if text[-1:].isalnum() else text


def candidates(prompt: Prompt, dice: Dice, count: int) -> list[Candidate]:
    """`count` different responses of mixed quality, in random order.

    Args:
      prompt: a record of this simulation.
      dice: chooses styles and wordings.
      count: K, 2 to 9.

    Returns:
      The candidates; texts differ from each other.
    """
    found: dict[str, Candidate] = {}
    styles, weights = list(STYLES), list(STYLES.values())
    for _ in range(60):
        if len(found) == count:
            break
        style = dice.weighted(styles, weights)
        text = write_response(prompt, style, dice)
        found.setdefault(text, Candidate(text, style))
    return dice.shuffled(list(found.values()))
