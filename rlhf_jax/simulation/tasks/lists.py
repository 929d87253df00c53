"""Brainstorming: so many ideas of a sort, all different, and no more than asked."""

import re

from rlhf_jax.simulation import lexicon
from rlhf_jax.simulation.claims import words
from rlhf_jax.simulation.facts import SUBJECTS
from rlhf_jax.simulation.manners import without_manners
from rlhf_jax.simulation.tasks.task import Ask, Judgement, Task, listed

ACTIVITIES = ("fly a kite", "bake bread", "walk by the lake", "feed the hens",
              "paint a boat", "read a book", "play the drum", "plant beans",
              "visit the market", "mend a coat", "row on the river", "sing a song",
              "clean the barn", "pick berries", "build a fire")  # fmt: skip
PET_NAMES = ("Pip", "Biscuit", "Shadow", "Patch", "Misty", "Pepper", "Button", "Clover",
             "Acorn", "Ginger")  # fmt: skip
_ASKS = {
    "activities": ("things to do [on a free day|with a friend|in summer]",),
    "gifts": ("gifts for {who}", "ideas for a gift for {who}"),
    "pet_names": ("names for a [new |young |]{animal}",),
    "treats": ("foods for [a picnic|a party|supper]", "things to eat"),
    "home": ("animals that live {v}",),
    "material": ("things made of {value}",),
    "job": ("people who work as {v}s",),
    "kind": ("animals that are {value}s",),
}
_SEPARATOR = re.compile(r"[\n,;.]|\band\b|\bor\b|[0-9]+")
_LEADS = {"a", "an", "the", "some", "you", "could", "can", "try", "to", "i", "suggest",
          "here", "are", "they", "as", "well", "maybe", "also"}  # fmt: skip
_NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five"}


def members(world, spec) -> tuple[str, ...]:
    """Everything that the list may hold."""
    sort = spec["sort"]
    if sort in FREE:
        return FREE[sort]
    kind = {"material": "object", "job": "person"}.get(sort, "animal")
    return tuple(s for s in SUBJECTS[kind] if world.facts[s, sort] == spec["value"])


FREE = {
    "activities": ACTIVITIES,
    "gifts": tuple(lexicon.OBJECTS),
    "pet_names": PET_NAMES,
    "treats": lexicon.TREATS,
}


def items(response: str) -> list[str]:
    """The items of a written list: by lines, commas, numbers, "and"; no fillers."""
    found = []
    for part in _SEPARATOR.split(response):
        kept = words(part)
        while kept and kept[0] in _LEADS:
            kept = kept[1:]
        if kept:
            found.append(" ".join(kept))
    return found


class Brainstorm(Task):
    """So many items of a sort: free ideas, or things of which a fact is true."""

    name = "brainstorm"
    use_case = "brainstorming"
    shot = ("List what is asked.", "Asked", "List")

    def draw(self, world, dice):
        sort = dice.weighted(list(_ASKS), (4, 4, 3, 4, 2, 2, 1, 1))
        spec = {"sort": sort, "value": "", "who": dice.pick(SUBJECTS["person"]),
                "animal": dice.pick(lexicon.PETS)}  # fmt: skip
        if sort not in FREE:
            values = sorted({v for (_, n), v in world.facts.items() if n == sort})
            spec["value"] = dice.pick(values)
            while len(members(world, spec)) < 2:
                spec["value"] = dice.pick(values)
        spec["count"] = dice.between(2, min(5, len(members(world, spec))))
        return spec

    def query(self, world, spec, dice):
        value = spec["value"]
        place = f"{'on' if value in {'hill', 'farm'} else 'in'} the {value}"
        phrase = {"home": place, "job": value}.get(spec["sort"], value)
        what = dice.vary(dice.pick(_ASKS[spec["sort"]]), v=phrase, **spec)
        return f"{_NUMBERS[spec['count']]} {what}"

    def ask(self, world, spec, dice):
        return Ask(
            dice.vary(
                "[List|Name|Give me|Think of|Suggest] {what}.",
                what=self.query(world, spec, dice),
            )
        )

    def written(self, dice, chosen):
        """The items as prose, numbered, or one on a line."""
        style = dice.weighted(("prose", "numbers", "lines"), (5, 3, 2))
        if style == "prose":
            text = listed(chosen)
            return text[0].upper() + text[1:] + "."
        if style == "numbers":
            return " ".join(f"{i}. {item}" for i, item in enumerate(chosen, 1))
        return "\n".join(chosen)

    def ideal(self, world, spec, dice):
        return self.written(dice, dice.sample(members(world, spec), spec["count"]))

    def partial(self, world, spec, dice):
        chosen = dice.sample(members(world, spec), spec["count"])
        return self.written(dice, chosen[: dice.between(1, spec["count"] - 1)])

    def wrong(self, world, spec, dice):
        good = set(members(world, spec))
        pool = [*lexicon.TREATS, *lexicon.ANIMALS, *lexicon.OBJECTS]
        pool = [item for item in pool if item not in good]
        if spec["sort"] in {"home", "kind"}:
            pool = [animal for animal in lexicon.ANIMALS if animal not in good]
        return self.written(dice, dice.sample(pool, spec["count"]))

    def judge(self, world, spec, response):
        good = {item.lower() for item in members(world, spec)}
        said = items(without_manners(response))
        right = {
            item for item in said if item in good or item.removesuffix("s") in good
        }
        if not said or not right:
            return Judgement(0.0, 20, true=0.0 if said and spec["value"] else 1.0)
        filled = min(len(right), spec["count"]) / spec["count"]
        clean = min(len(right), spec["count"]) / max(len(said), len(right))
        true = len(right) / len(said) if spec["sort"] not in FREE else 1.0
        words_each = 4 if spec["sort"] == "activities" else 3
        return Judgement(filled * clean, 4 + words_each * spec["count"], true=true)
