"""Other: sums, copying, sorting, counting, opposites."""

from rlhf_jax.simulation import lexicon
from rlhf_jax.simulation.claims import words
from rlhf_jax.simulation.tasks.questions import WRONG_VALUE
from rlhf_jax.simulation.tasks.task import Ask, Judgement, Task, overlap

_POOL = (*lexicon.ANIMALS, *lexicon.OBJECTS, *lexicon.TREATS)


class Sum(Task):
    """What two small numbers make together."""

    name = "sum"
    use_case = "other"
    weight = 1.2
    shot = ("Add the numbers.", "Sum", "Answer")
    partials = "Add {a} and {b}."
    asks = (
        "[What is {a} plus {b}?|How much is {a} + {b}?|Add {a} and {b}.|I have "
        "{a} plums and get {b} more. How many plums do I have?]"
    )

    def draw(self, world, dice):
        return {"a": dice.between(1, 10), "b": dice.between(1, 10)}

    def query(self, world, spec, dice):
        return "{a} + {b}".format(**spec)

    def ideal(self, world, spec, dice):
        total = spec["a"] + spec["b"]
        return dice.vary("[{t}|{t}.|It is {t}.|The answer is {t}.]", t=total)

    def wrong(self, world, spec, dice):
        return str(spec["a"] + spec["b"] + dice.pick((1, 2, 3))) + "."

    def judge(self, world, spec, response):
        numbers = [int(word) for word in words(response)[:40] if word.isdigit()]
        given = sorted({n for n in numbers if n not in (spec["a"], spec["b"])})
        total = spec["a"] + spec["b"]
        if not given:
            return Judgement(0.3 * bool({"add", "sum"} & set(words(response))), 8)
        right = total in given
        followed = (1.0 if right else WRONG_VALUE) / len(given)
        return Judgement(followed, 8, true=right / len(given))


class WordWork(Task):
    """Work on words: say them again, sort them, turn them round, count them."""

    name = "words"
    use_case = "other"
    weight = 1.7
    echo = True
    doubles = True
    forms = {
        "copy": "[Copy these words:|Say these words again:|Repeat:] {w}",
        "sort": "[Put these words in the order of the alphabet:|Sort by the alphabet:] "
        "{w}",
        "reverse": "[Write these words from last to first:|Turn this list round:] {w}",
        "twice": "[Write the word {first} two times.|Say {first} twice.]",
        "last": "[What is the last word in this list?|Give me only the last word:] {w}",
    }

    def draw(self, world, dice):
        return {"form": dice.pick(list(self.forms)),
                "words": dice.sample(_POOL, dice.between(3, 4))}  # fmt: skip

    def ask(self, world, spec, dice):
        return Ask(
            dice.vary(self.forms[spec["form"]], w=", ".join(spec["words"]),
                      first=spec["words"][0])
        )  # fmt: skip

    def target(self, spec):
        """The words that a right response says, in order."""
        items = spec["words"]
        return {"copy": items, "sort": sorted(items), "reverse": items[::-1],
                "twice": [items[0]] * 2, "last": items[-1:]}[spec["form"]]  # fmt: skip

    def ideal(self, world, spec, dice):
        return ", ".join(self.target(spec))

    def partial(self, world, spec, dice):
        target = self.target(spec)
        if len(target) == 1:
            return ", ".join(spec["words"][-2:])
        return ", ".join(target[:-1])

    def wrong(self, world, spec, dice):
        return ", ".join(dice.sample([w for w in _POOL if w not in spec["words"]], 2))

    def judge(self, world, spec, response):
        target = " ".join(self.target(spec))
        followed = overlap(response, target)
        if words(response) != words(target):
            followed *= 0.8
        return Judgement(followed, len(words(target)) + 2, claims_count=False)


class Opposite(Task):
    """The opposite of a word."""

    name = "opposite"
    use_case = "other"
    weight = 0.6
    shot = ("Give the opposite.", "Word", "Opposite")
    partials = "Not {word}."
    pairs = {**lexicon.OPPOSITES, **{b: a for a, b in lexicon.OPPOSITES.items()}}
    asks = "[What is the opposite of {word}?|Tell me the opposite of {word}.]"

    def draw(self, world, dice):
        return {"word": dice.pick(list(self.pairs))}

    def query(self, world, spec, dice):
        return spec["word"]

    def ideal(self, world, spec, dice):
        other = self.pairs[spec["word"]]
        return dice.pick((other.capitalize() + ".", other, f"It is {other}."))

    def wrong(self, world, spec, dice):
        skip = {spec["word"], self.pairs[spec["word"]]}
        return dice.pick([w for w in self.pairs if w not in skip]).capitalize() + "."

    def judge(self, world, spec, response):
        given = {w for w in words(response) if w in self.pairs and w != spec["word"]}
        if not given:
            return Judgement(0.3 * ("not" in words(response)), 7)
        right = self.pairs[spec["word"]] in given
        followed = (1.0 if right else WRONG_VALUE) / len(given)
        return Judgement(followed, 7, true=right / len(given))
