"""Closed domain: summaries, questions on a passage, and extraction from it.

Passages tell of one event in the past, with details that need not agree with the rest
of the valley; only the passage counts.
"""

from rlhf_jax.simulation import lexicon
from rlhf_jax.simulation.claims import sentences, words
from rlhf_jax.simulation.narratives import where
from rlhf_jax.simulation.relations import article, capital
from rlhf_jax.simulation.tasks.questions import WRONG_VALUE
from rlhf_jax.simulation.tasks.task import (
    Ask,
    Judgement,
    Task,
    count_score,
    listed,
    mentions,
    share,
)

# event -> (how it is told, how it is summed up); {x} the thing, {p} he or she
EVENTS = (
    ("{who} lost {x} {at}.", "{friend} found it and brought it back.",
     "{who} lost {x} {at} and {friend} found it."),
    ("{who} sold {x} {at}.", "{friend} paid {n} coins for it.",
     "{who} sold {x} to {friend} for {n} coins."),
    ("{who} met {animal} {at}.", "{friend} gave it some bread.",
     "{who} and {friend} met {animal} {at}."),
    ("{who} made {x} for the fair.", "{friend} gave {o} the first prize.",
     "{who} made {x} and won the first prize."),
    ("{who} broke {x} {at}.", "{friend} mended it in {n} days.",
     "{who} broke {x} and {friend} mended it."),
)  # fmt: skip
FILLERS = (
    "It was {day}.",
    "The sky was {colour}.",
    "It rained a little.",
    "Many people were there.",
    "The road was long.",
    "It was a cold {day}.",
)


def draw_passage(dice) -> dict:
    """The details of one event."""
    who, friend = dice.sample(list(lexicon.PEOPLE), 2)
    return {
        "event": dice.below(len(EVENTS)), "who": who, "friend": friend,
        "thing": dice.pick(list(lexicon.OBJECTS)), "place": dice.pick(lexicon.PLACES),
        "animal": dice.pick(list(lexicon.ANIMALS)), "n": dice.pick(lexicon.NUMBERS[2:]),
        "day": dice.pick(lexicon.DAYS), "colour": dice.pick(("grey", "blue", "red")),
        "filler": dice.below(len(FILLERS)), "at_end": dice.chance(0.5),
    }  # fmt: skip


def slots(spec) -> dict[str, str]:
    """What the slots of the event's templates stand for."""
    return dict(
        spec,
        x=article(spec["thing"]), at=where(spec["place"]),
        animal=article(spec["animal"]),
        o={"he": "him", "she": "her"}[lexicon.PEOPLE[spec["who"]]],
    )  # fmt: skip


def passage(spec) -> str:
    """The event told in three sentences."""
    first, second, _ = EVENTS[spec["event"]]
    filler = FILLERS[spec["filler"]]
    order = (first, second, filler) if spec["at_end"] else (filler, first, second)
    return " ".join(order).format(**slots(spec))


def key_words(spec) -> list[str]:
    """What a summary must hold."""
    told = EVENTS[spec["event"]][2]
    keys = [spec["who"]]
    keys += [spec["friend"]] if "{friend}" in told else ["prize"]
    keys.append(spec["animal"] if "{animal}" in told else spec["thing"])
    return keys + [
        w for w in words(told) if w in {"lost", "sold", "met", "made", "broke"}
    ]


class Summarise(Task):
    """The event of a passage in one sentence."""

    name = "summarise"
    use_case = "summarization"
    closed = True
    echo = True

    def draw(self, world, dice):
        return draw_passage(dice)

    def ask(self, world, spec, dice):
        instruction = dice.vary(
            "[Sum up the text in one sentence.|Write a summary of one sentence.|What "
            "happened? Tell me in one sentence.|Make this short:]"
        )
        return Ask(instruction, passage(spec))

    def ideal(self, world, spec, dice):
        return EVENTS[spec["event"]][2].format(**slots(spec))

    def partial(self, world, spec, dice):
        first, second, _ = EVENTS[spec["event"]]
        return dice.pick((first, second)).format(**slots(spec))

    def wrong(self, world, spec, dice):
        return self.ideal(world, dict(draw_passage(dice), event=spec["event"]), dice)

    def judge(self, world, spec, response):
        found = share(mentions(response, key) for key in key_words(spec))
        ordered = self.in_order(spec, response)
        length = count_score(len(sentences(response)), 1)
        followed = found * (0.4 + 0.2 * ordered + 0.4 * length)
        return Judgement(
            followed, 14, true=ordered if found else 1.0, claims_count=False
        )

    def in_order(self, spec, response) -> float:
        """0 where the two people of the event have changed their parts."""
        said = words(response)
        who, friend = spec["who"].lower(), spec["friend"].lower()
        if who in said and friend in said and said.index(friend) < said.index(who):
            return 0.0
        return 1.0


class ClosedQuestion(Task):
    """A question that the passage answers, or does not."""

    name = "closed_question"
    use_case = "closed_qa"
    closed = True
    echo = True

    def draw(self, world, dice):
        spec = draw_passage(dice)
        told = " ".join((*EVENTS[spec["event"]][:2], FILLERS[spec["filler"]]))
        answers = {"who": "who", "friend": "friend", "place": "at", "n": "n",
                   "day": "day"}  # fmt: skip
        here = [key for key, slot in answers.items() if "{" + slot + "}" in told]
        absent = [key for key in answers if key not in here]
        spec["asked"] = dice.pick(absent if absent and dice.chance(0.25) else here)
        spec["answered"] = spec["asked"] in here
        return spec

    def question(self, spec):
        """What is asked of the passage, in words."""
        who = spec["who"]
        verb = ("lost {x}", "sold {x}", "met {animal}", "made {x}", "broke {x}")
        base = ("lose {x}", "sell {x}", "meet {animal}", "make {x}", "break {x}")
        helped = ("Who found {x}", "Who paid for {x}", "Who gave it some bread",
                  "Who gave the prize", "Who mended {x}")  # fmt: skip
        text = {
            "who": f"Who {verb[spec['event']]}?",
            "friend": f"{helped[spec['event']]}?",
            "place": f"Where did {who} {base[spec['event']]}?",
            "n": "How many " + ("days did it take?" if spec["event"] == 4 else
                                "coins were paid?"),
            "day": "On which day was it?",
        }[spec["asked"]]  # fmt: skip
        return (
            text.format(**slots(spec)).replace(" a ", " the ").replace(" an ", " the ")
        )

    def ask(self, world, spec, dice):
        lead = dice.vary("[Answer from the text.|Use only the text.|Read and answer.]")
        return Ask(f"{lead} {self.question(spec)}", passage(spec))

    def answer(self, spec):
        """The true answer, without a full stop."""
        value = spec[spec["asked"]]
        return {"place": capital(where(str(value))), "day": f"On {value}"}.get(
            spec["asked"], capital(value)
        )

    def ideal(self, world, spec, dice):
        if not spec["answered"]:
            return dice.vary("[The text does not say.|The text does not tell us.|It is "
                             "not in the text.]")  # fmt: skip
        return self.answer(spec) + "."

    def partial(self, world, spec, dice):
        return "I am not sure, but the text may tell you." if spec["answered"] else (
            "I do not know."
        )  # fmt: skip

    def wrong(self, world, spec, dice):
        other = draw_passage(dice)
        while other[spec["asked"]] == spec[spec["asked"]]:
            other = draw_passage(dice)
        return self.answer(dict(other, asked=spec["asked"])) + "."

    def judge(self, world, spec, response):
        said = words(response)
        silent = bool({"not", "nobody"} & set(said))
        pools = {"who": lexicon.PEOPLE, "friend": lexicon.PEOPLE, "day": lexicon.DAYS,
                 "place": lexicon.PLACES, "n": lexicon.NUMBERS}  # fmt: skip
        pool = {item.lower() for item in pools[spec["asked"]]}
        given = sorted({word for word in said if word in pool})
        if not spec["answered"]:
            about_text = bool({"text", "know", "say"} & set(said))
            good = silent and about_text and not given
            followed = (1.0 if "text" in said else 0.6) if good else 0.0
            return Judgement(
                followed, 12, true=0.0 if given else 1.0, claims_count=False
            )
        if not given:
            return Judgement(0.2 * silent, 12, claims_count=False)
        right = spec[spec["asked"]].lower() in given
        followed = (1.0 if right else WRONG_VALUE) / len(given)
        followed *= min(1.0, 12 / len(said))
        return Judgement(followed, 12, true=right / len(given), claims_count=False)


class Extract(Task):
    """All names, animals or things of a passage, as a list."""

    name = "extract"
    use_case = "extract"
    closed = True
    echo = True
    pools = {"names": tuple(lexicon.PEOPLE), "animals": tuple(lexicon.ANIMALS),
             "things": tuple(lexicon.OBJECTS)}  # fmt: skip

    def draw(self, world, dice):
        sort = dice.weighted(("names", "animals", "things"), (3, 2, 2))
        count = dice.between(2, 4)
        spec = {"sort": sort, "wanted": dice.sample(self.pools[sort], count)}
        spec["place"], spec["day"] = dice.pick(lexicon.PLACES), dice.pick(lexicon.DAYS)
        spec["other"] = dice.pick(list(lexicon.PEOPLE))
        while spec["other"] in spec["wanted"]:
            spec["other"] = dice.pick(list(lexicon.PEOPLE))
        return spec

    def text(self, spec):
        """The passage that holds the items."""
        wanted = spec["wanted"]
        if spec["sort"] == "names":
            return f"{listed(wanted)} came to the {spec['place']} on {spec['day']}."
        items = listed([article(item) for item in wanted])
        return f"On {spec['day']} {spec['other']} saw {items} {where(spec['place'])}."

    def ask(self, world, spec, dice):
        what = {"names": "[names|people]"}.get(spec["sort"], spec["sort"])
        return Ask(
            dice.vary("[List all|Find the|Pick out the] " + what + " in the text."),
            self.text(spec),
        )

    def ideal(self, world, spec, dice):
        items = list(spec["wanted"])
        return ", ".join([capital(items[0]), *items[1:]])

    def partial(self, world, spec, dice):
        items = dice.sample(spec["wanted"], len(spec["wanted"]) - 1)
        return ", ".join([capital(items[0]), *items[1:]])

    def wrong(self, world, spec, dice):
        pool = [item for item in self.pools[spec["sort"]] if item not in spec["wanted"]]
        return capital(", ".join(dice.sample(pool, len(spec["wanted"]))))

    def judge(self, world, spec, response):
        said = words(response)
        wanted = {item.lower() for item in spec["wanted"]}
        right = len(wanted & set(said))
        named = max(len(said) - said.count("and"), right, 1)
        f1 = 2 * right / (named + len(wanted))
        return Judgement(f1, len(wanted) + 3, claims_count=False)
