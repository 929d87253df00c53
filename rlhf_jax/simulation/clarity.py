"""Whether a text is language of the valley: the share of its word pairs that are known.

Names, animals, places and the like are folded into their classes, so that a new
sentence of known shape is clear, and a heap of right words is not.
"""

import functools
from collections.abc import Iterator

from rlhf_jax.simulation import lexicon
from rlhf_jax.simulation.claims import sentences, words
from rlhf_jax.simulation.dice import Dice
from rlhf_jax.simulation.facts import SUBJECTS, World, make_world
from rlhf_jax.simulation.manners import MANNERS
from rlhf_jax.simulation.relations import (
    RELATIONS,
    bare_verb,
    capital,
    subject_phrase,
    value_phrase,
)
from rlhf_jax.simulation.tasks import TASKS
from rlhf_jax.simulation.tasks.lists import ACTIVITIES, PET_NAMES

_SAMPLES = 400  # ideal responses of each task from which the word pairs are read
_START, _END = "<", ">"


@functools.cache
def word_classes() -> dict[str, str]:
    """Word -> the class it is folded into; other words stand for themselves."""
    classes = {"an": "a"}
    for name, items in (
        ("#name", (*lexicon.PEOPLE, *lexicon.TOWNS)),
        ("#animal", lexicon.ANIMALS),
        ("#sound", lexicon.SOUNDS),
        ("#call", map(bare_verb, lexicon.SOUNDS)),
        ("#place", (*lexicon.PLACES, *lexicon.HOMES, *lexicon.ROOMS)),
        ("#thing", (*lexicon.OBJECTS, *lexicon.TREATS, *lexicon.FOODS,
                    *lexicon.CRAFTS, *lexicon.MATERIALS)),
        ("#colour", lexicon.COLOURS),
        ("#job", lexicon.JOBS),
        ("#day", lexicon.DAYS),
        ("#number", (*lexicon.NUMBERS, *map(str, range(100)))),
        ("#pet", PET_NAMES),
        ("#river", lexicon.RIVERS),
        ("#quality", (*lexicon.OPPOSITES, *lexicon.OPPOSITES.values())),
    ):  # fmt: skip
        for item in items:
            classes.setdefault(item.lower(), name)
    return classes


def folded_pairs(text: str) -> list[tuple[str, str]]:
    """The adjacent word pairs of a text, sentence by sentence, with their ends."""
    classes = word_classes()
    pairs = []
    for sentence in sentences(text):
        row = [_START, *(classes.get(word, word) for word in words(sentence)), _END]
        pairs += list(zip(row[:-1], row[1:], strict=True))
    return pairs


@functools.cache
def known_pairs() -> frozenset[tuple[str, str]]:
    """The pairs of many ideal responses of every task, and of plain statements."""
    world, found = make_world(0), set()
    for task in TASKS.values():
        for index in range(_SAMPLES):
            dice = Dice("clarity", task.name, index)
            spec = task.draw(world, dice)
            for write in (task.ideal, task.partial):
                found.update(folded_pairs(write(world, spec, dice)))
        for text in task.wordings():
            found.update(folded_pairs(text))
    for text in statements(world):
        found.update(folded_pairs(text))
    for item in (*ACTIVITIES, *MANNERS):
        found.update(folded_pairs(item))
    for first in ACTIVITIES:
        for second in ACTIVITIES:
            found.update(folded_pairs(f"{first} {second} and {first}"))
    return frozenset(found)


def statements(world: World) -> Iterator[str]:
    """Every way to state a relation, with each value that it can take."""
    for name, entry in RELATIONS.items():
        subject = SUBJECTS[entry.subject][0]
        said = capital(subject_phrase(entry.subject, subject))
        for value in entry.domain:
            yield entry.short.format(v=value_phrase(name, value))
            for template in entry.state:
                text = world.phrase(template, subject, name, value)
                for who in (said, "It", "He", "She"):
                    form = text.replace(said, who, 1)
                    yield f"{form}. Yes, {form}. No, {form}."


def clarity(text: str) -> float:
    """The share of word pairs of a text that the valley's language has.

    Args:
      text: a response.

    Returns:
      [0, 1]; 0 for a text without words.
    """
    pairs = folded_pairs(text)
    if not pairs:
        return 0.0
    known = known_pairs()
    return sum(pair in known for pair in pairs) / len(pairs)
