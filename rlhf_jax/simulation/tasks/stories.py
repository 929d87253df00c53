"""Generation: stories, sentences with given words, and rhymes."""

from rlhf_jax.simulation import lexicon
from rlhf_jax.simulation.claims import sentences, words
from rlhf_jax.simulation.narratives import (
    NARRATIVE,
    OPENINGS,
    RHYMES,
    Hero,
    couplet,
    draw_hero,
    story,
    where,
)
from rlhf_jax.simulation.relations import article
from rlhf_jax.simulation.tasks.task import (
    Ask,
    Judgement,
    Task,
    count_score,
    mentions,
    share,
)

COUNT_WORDS = {
    1: "one sentence",
    2: "two sentences",
    3: "three sentences",
    4: "four sentences",
}


def told(response: str) -> float:
    """The share of sentences that tell of something: they have a verb in the past."""
    return share(bool(NARRATIVE & set(words(part))) for part in sentences(response))


def rhymes(first: str, second: str) -> bool:
    """Whether two different words rhyme."""
    groups = (group for group in RHYMES if first in group)
    return first != second and any(second in group for group in groups)


def at_place(response: str, place: str) -> bool:
    """Whether a text has a place in it; nobody is at the well who "slept well"."""
    said = words(response)
    if place != "well":
        return mentions(response, place)
    return any(
        word == place and before in {"a", "the"}
        for before, word in zip(said[:-1], said[1:], strict=True)
    )


class Story(Task):
    """A story with a hero, a place, a thing, a length and perhaps a beginning."""

    name = "story"
    use_case = "generation"
    weight = 15.0

    def draw(self, world, dice):
        return {
            "hero": draw_hero(dice),
            "place": dice.pick(lexicon.PLACES),
            "thing": dice.pick(list(lexicon.OBJECTS)),
            "count": dice.weighted((1, 2, 3, 4), (2, 4, 4, 1)),
            "opening": dice.weighted(list(OPENINGS), (1, 1.5, 1, 6)),
        }

    def ask(self, world, spec, dice):
        hero = Hero(spec["hero"]).first
        start = f' Begin with "{spec["opening"]}".' if spec["opening"] else ""
        forms = (
            "Write a story about {hero} in {n}. Put {thing} and the {place} in it.",
            "Write {n} about {hero}. Use {thing} and the {place}.",
            "Tell me a story of {n} about {hero} and {thing}. It happens {at}.",
            "I [need|want] a story in {n}. It is about {hero}, {thing} and the "
            "{place}.",
            "Make up a tale with {hero} {at} and {thing}. Use {n}.",
        )
        text = dice.vary(
            dice.pick(forms),
            hero=hero,
            n=COUNT_WORDS[spec["count"]],
            place=spec["place"],
            at=where(spec["place"]),
            thing=article(spec["thing"]),
        )
        return Ask(text + start)

    def ideal(self, world, spec, dice):
        return " ".join(story(dice, **spec))

    def partial(self, world, spec, dice):
        changed = dict(spec)
        for part in dice.sample(("thing", "place", "count", "opening"), 2):
            if part == "count":
                changed["count"] = 1 + spec["count"] % 3
            elif part == "opening":
                changed["opening"] = ""
            else:
                changed[part] = self.draw(world, dice)[part]
        if changed["thing"] == spec["thing"] and changed["place"] == spec["place"]:
            changed["place"] = dice.pick(
                [place for place in lexicon.PLACES if place != spec["place"]]
            )
        return " ".join(story(dice, **changed))

    def wrong(self, world, spec, dice):
        return " ".join(story(dice, **self.draw(world, dice)))

    def judge(self, world, spec, response):
        marks = [mentions(response, spec[part]) for part in ("hero", "thing")]
        marks.append(at_place(response, spec["place"]))
        if spec["opening"]:
            marks.append(response.strip().startswith(spec["opening"]))
        length = count_score(len(sentences(response)), spec["count"])
        followed = told(response) * (0.7 * share(marks) + 0.3 * length)
        return Judgement(
            followed if any(marks[:3]) else 0.0, limit=14 * spec["count"] + 4
        )


class Sentence(Task):
    """One sentence that uses two given words."""

    name = "sentence"
    use_case = "generation"
    weight = 7.0
    shot = ("Make a sentence with the words.", "Words", "Sentence")

    def draw(self, world, dice):
        hero, place = draw_hero(dice), dice.pick(lexicon.PLACES)
        return {
            "hero": hero,
            "place": place,
            "thing": dice.pick(list(lexicon.OBJECTS)),
            "words": dice.shuffled([hero, dice.pick(("place", "thing"))]),
        }

    def pair(self, spec):
        """The two words that must be used."""
        return [spec.get(word, word) for word in spec["words"]]

    def ask(self, world, spec, dice):
        first, second = self.pair(spec)
        return Ask(
            dice.vary(
                "[Write|Make|Give me] [a|one] sentence [with|that uses] the words "
                "{a} and {b}[.| in it.]",
                a=first, b=second,
            )
        )  # fmt: skip

    def query(self, world, spec, dice):
        return ", ".join(self.pair(spec))

    def ideal(self, world, spec, dice):
        return story(dice, spec["hero"], spec["place"], spec["thing"], 1)[0]

    def partial(self, world, spec, dice):
        places = [place for place in lexicon.PLACES if place != spec["place"]]
        return story(dice, spec["hero"], dice.pick(places), spec["thing"], 2)[0]

    def wrong(self, world, spec, dice):
        return self.ideal(world, self.draw(world, dice), dice)

    def judge(self, world, spec, response):
        marks = [mentions(response, word) for word in self.pair(spec)]
        length = count_score(len(sentences(response)), 1)
        long_enough = min(1.0, len(words(response)) / 5)
        followed = told(response) * long_enough * share(marks) * (0.5 + 0.5 * length)
        return Judgement(followed, limit=18)


class Verse(Task):
    """Two rhyming lines about somebody."""

    name = "verse"
    use_case = "generation"
    weight = 4.0

    def draw(self, world, dice):
        return {"topic": draw_hero(dice)}

    def ask(self, world, spec, dice):
        return Ask(
            dice.vary(
                "[Write|Make] [a rhyme|a poem|a verse] of two lines about {topic}.",
                topic=Hero(spec["topic"]).first,
            )
        )

    def ideal(self, world, spec, dice):
        return "\n".join(couplet(dice, spec["topic"]))

    def partial(self, world, spec, dice):
        first, second = couplet(dice, spec["topic"])
        if dice.chance(0.5):
            return first.rstrip(",") + "."
        other = couplet(dice, spec["topic"])[1]
        while rhymes(words(first)[-1], words(other)[-1]):
            other = couplet(dice, spec["topic"])[1]
        return f"{first}\n{other}"

    def wrong(self, world, spec, dice):
        place, thing = dice.pick(lexicon.PLACES), dice.pick(list(lexicon.OBJECTS))
        return story(dice, draw_hero(dice), place, thing, 1)[0]

    def judge(self, world, spec, response):
        lines = [words(line) for line in response.split("\n") if words(line)]
        ends = [line[-1] for line in lines if len(line) > 3]
        rhymed = len(ends) == 2 and rhymes(*ends)
        marks = (
            0.4 * mentions(response, spec["topic"])
            + 0.25 * count_score(len(ends), 2)
            + 0.35 * rhymed
        )
        return Judgement(marks if ends else 0.0, limit=22)
