"""Skills that the pretraining corpus teaches and that no task trains: the tax to pay.

Few-shot sums, copying, opposites, and recall of facts from running text. Documents
numbered below `HELD_OUT` are never in a corpus: what is held out is the document, with
its examples and their order, not the sum or the fact in it.
"""

from rlhf_jax.simulation import lexicon
from rlhf_jax.simulation.claims import claims, sentences
from rlhf_jax.simulation.dice import Dice
from rlhf_jax.simulation.facts import World
from rlhf_jax.simulation.relations import RELATIONS, value_phrase

SKILLS = ("arithmetic", "copying", "opposites", "recall")
HELD_OUT = 1000
_WORDS = (*lexicon.ANIMALS, *lexicon.OBJECTS, *lexicon.TREATS, *lexicon.COLOURS)


def skill_shots(world: World, skill: str, dice: Dice, count: int) -> list[list[str]]:
    """`count` lines of a skill, each as [what is given, what follows]."""
    if skill == "arithmetic":
        pairs = [(dice.between(0, 12), dice.between(0, 12)) for _ in range(count)]
        return [[f"{a} + {b} =", f" {a + b}"] for a, b in pairs]
    if skill == "copying":
        rows = [" ".join(dice.sample(_WORDS, dice.between(2, 4))) for _ in range(count)]
        return [[f"{row} |", f" {row}"] for row in rows]
    if skill == "opposites":
        both = {**lexicon.OPPOSITES, **{b: a for a, b in lexicon.OPPOSITES.items()}}
        return [
            [f"{word} :", f" {both[word]}"] for word in dice.sample(list(both), count)
        ]
    keys = [key for key in world.facts if key[1] != "sound"]
    return [recall_line(world, *dice.pick(keys)) for _ in range(count)]


def recall_line(world: World, subject: str, name: str) -> list[str]:
    """A fact as the start of a sentence and its end, the value last."""
    forms = RELATIONS[name].state
    form = next((f for f in forms if f.endswith("{v}")), forms[0])
    text = world.phrase(form, subject, name, world.facts[subject, name])
    value = value_phrase(name, world.facts[subject, name])
    head, _, tail = text.rpartition(value)
    return [head.rstrip(), f" {value}{tail}"]


def skill_document(world: World, skill: str, number: int) -> list[list[str]]:
    """The lines of the document of a number; those below `HELD_OUT` are held out."""
    dice = Dice("skill", world.seed, skill, number)
    count = dice.between(4, 6) if skill != "recall" else 1
    return skill_shots(world, skill, dice, count)


def skill_examples(world: World, skill: str, count: int = 100) -> list[tuple[str, str]]:
    """Held-out examples of a skill.

    Args:
      world: the valley.
      skill: one of `SKILLS`.
      count: how many, at most `HELD_OUT`.

    Returns:
      (prompt, completion) pairs; the completion begins with its space. Few-shot for
      all but "recall".
    """
    examples, seen = [], set()
    for number in range(HELD_OUT):
        lines = skill_document(world, skill, number)
        prompt = "\n".join("".join(line) for line in lines[:-1])
        prompt += ("\n" if prompt else "") + lines[-1][0]
        if prompt not in seen and len(examples) < count:
            seen.add(prompt)
            examples.append((prompt, lines[-1][1]))
    return examples


def is_right(world: World, skill: str, given: str, wanted: str, output: str) -> bool:
    """Whether a greedy continuation answers an example of a skill.

    A line of a list must be continued by the wanted words to its end. Running text
    goes on after a recalled fact: there the sentence that was begun counts, and it is
    right when all that it states is true.

    Args:
      world: the valley.
      skill: one of `SKILLS`.
      given, wanted: an example of `skill_examples`.
      output: what was generated after `given`.

    >>> from rlhf_jax.simulation import make_world
    >>> example = ("The bee eats", " nectar", " nectar. It lives in the garden.")
    >>> is_right(make_world(0), "recall", *example)
    True
    """
    if output.split("\n")[0].strip() == wanted.strip():
        return True
    if skill != "recall":
        return False
    begun = sentences(given + output)[0]
    stated = claims(begun)
    return bool(stated) and all(claim.is_true(world) for claim in stated)
