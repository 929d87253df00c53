"""The facts of one valley: `make_world(seed)`.

Animals are as everywhere; who lives where and keeps what is drawn from the seed, so
that no model can know it without having read this valley's corpus. Myths are false
statements that people of the valley repeat.
"""

import functools
from dataclasses import dataclass

from rlhf_jax.simulation import lexicon
from rlhf_jax.simulation.dice import Dice
from rlhf_jax.simulation.relations import (
    RELATIONS,
    bare_verb,
    capital,
    subject_phrase,
    value_phrase,
)

ANIMAL_RELATIONS = ("kind", "food", "home", "sound", "colour")


@dataclass(frozen=True)
class World:
    """A valley: what is true in it, and what is only said.

    Attributes:
      seed: what it was drawn from; two worlds of one seed are equal.
      facts: (subject, relation name) -> the true value.
      myths: (subject, relation name) -> the value that people wrongly repeat.
    """

    seed: int
    facts: dict[tuple[str, str], str]
    myths: dict[tuple[str, str], str]

    def holds(self, subject: str, name: str, value: str) -> bool:
        """Whether a value is the true one."""
        return self.facts[subject, name] == value

    def phrase(self, template: str, subject: str, name: str, value: str) -> str:
        """A relation's template with its slots filled in, without a full stop."""
        said = subject_phrase(RELATIONS[name].subject, subject)
        return template.format(
            s=said,
            S=capital(said),
            v=value_phrase(name, value),
            base=bare_verb(value),
        )

    def statement(self, dice: Dice, subject: str, name: str, value=None) -> str:
        """A sentence that states a fact, or another value where one is given."""
        value = value or self.facts[subject, name]
        return self.phrase(dice.pick(RELATIONS[name].state), subject, name, value) + "."

    def question(self, dice: Dice, subject: str, name: str) -> str:
        """A question for a fact."""
        form = dice.pick(RELATIONS[name].ask)
        return self.phrase(form, subject, name, self.facts[subject, name]) + "?"

    def denial(self, subject: str, name: str, value: str) -> str:
        """A sentence that denies a value."""
        return self.phrase(RELATIONS[name].deny, subject, name, value) + "."

    def false_value(self, dice: Dice, subject: str, name: str) -> str:
        """The myth about a fact where there is one, else another value in use."""
        if (subject, name) in self.myths:
            return self.myths[subject, name]
        truth = self.facts[subject, name]
        used = {v for (_, n), v in self.facts.items() if n == name} - {truth}
        # where all subjects share one value, the others of the relation are left
        return dice.pick(sorted(used or set(RELATIONS[name].domain) - {truth}))


SUBJECTS = {
    "animal": tuple(lexicon.ANIMALS),
    "person": tuple(lexicon.PEOPLE),
    "town": lexicon.TOWNS,
    "object": tuple(lexicon.OBJECTS),
}
SUBJECT_KIND = {name: kind for kind, names in SUBJECTS.items() for name in names}


@functools.cache
def relations_of(kind: str) -> tuple[str, ...]:
    """The names of the relations that subjects of a kind have."""
    return tuple(name for name, entry in RELATIONS.items() if entry.subject == kind)


@functools.lru_cache(maxsize=8)
def make_world(seed: int = 0) -> World:
    """The valley of a seed.

    Args:
      seed: any integer; the package's examples use 0.

    Returns:
      The same world for the same seed on any machine.
    """
    dice = Dice("world", seed)
    facts: dict[tuple[str, str], str] = {}
    for animal, values in lexicon.ANIMALS.items():
        facts.update(
            {
                (animal, name): value
                for name, value in zip(ANIMAL_RELATIONS, values, strict=True)
            }
        )
    for person in lexicon.PEOPLE:
        for name in relations_of("person"):
            facts[person, name] = dice.pick(RELATIONS[name].domain)
    crafts = dice.shuffled(lexicon.CRAFTS)
    for town, craft in zip(lexicon.TOWNS, crafts, strict=True):
        for name in ("river", "direction", "fair"):
            facts[town, name] = dice.pick(RELATIONS[name].domain)
        facts[town, "craft"] = craft
    for thing, materials in lexicon.OBJECTS.items():
        facts[thing, "material"] = dice.pick(materials)
        facts[thing, "room"] = dice.pick(lexicon.ROOMS)
    world = World(seed, facts, dict(lexicon.MYTHS))
    rumours = [(p, n) for p in lexicon.PEOPLE for n in ("job", "treat")]
    rumours += [(town, "craft") for town in lexicon.TOWNS]
    for subject, name in dice.sample(rumours, 16):
        world.myths[subject, name] = world.false_value(dice, subject, name)
    return world
