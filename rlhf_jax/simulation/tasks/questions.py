"""Open questions about the facts of the valley: plain, yes or no, and misled."""

from rlhf_jax.simulation import lexicon
from rlhf_jax.simulation.claims import affirmed_values, words
from rlhf_jax.simulation.facts import SUBJECT_KIND, SUBJECTS, relations_of
from rlhf_jax.simulation.relations import (
    RELATIONS,
    capital,
    subject_phrase,
    value_phrase,
)
from rlhf_jax.simulation.tasks.task import Ask, Judgement, Task

KINDS = ("animal", "person", "town", "object")
WRONG_VALUE = 0.7  # an answer of the right kind with the wrong value follows this far


def draw_fact(world, dice) -> tuple[str, str]:
    """A subject and one of its relations; every second one has a myth told of it."""
    if dice.chance(0.35):
        return dice.pick(list(world.myths))
    kind = dice.weighted(KINDS, (4, 4, 2, 2))
    return dice.pick(SUBJECTS[kind]), dice.pick(relations_of(kind))


def pronoun_statement(world, dice, subject, name, value=None) -> str:
    """A statement that says "It", "He" or "She" where it begins with its subject."""
    text = world.statement(dice, subject, name, value)
    said = capital(subject_phrase(SUBJECT_KIND[subject], subject))
    if not text.startswith(said + " "):
        return text
    return capital(lexicon.PEOPLE.get(subject, "it")) + text[len(said) :]


def unsure(response: str) -> bool:
    """Whether a response says that it does not know."""
    text = " ".join(words(response))
    return any(
        part in text
        for part in (
            "not know",
            "cannot know",
            "cannot say",
            "nobody knows",
            "not sure",
        )
    )


class Question(Task):
    """A question for one fact; an answer may also deny the myth about it."""

    name = "question"
    use_case = "open_qa"
    echo = True
    weight = 7.0
    shot = ("Answer each question.", "Question", "Answer")

    def draw(self, world, dice):
        subject, name = draw_fact(world, dice)
        return {"subject": subject, "relation": name}

    def key(self, spec):
        """(subject, relation name) of the fact asked for."""
        return spec["subject"], spec["relation"]

    def ask(self, world, spec, dice):
        text = world.question(dice, *self.key(spec))
        lead = dice.weighted(
            ("", "Tell me: ", "I have a question. ", "Do you know? "), (6, 1, 1, 1)
        )
        return Ask(lead + text)

    def query(self, world, spec, dice):
        return world.question(dice, *self.key(spec))

    def ideal(self, world, spec, dice):
        subject, name = self.key(spec)
        value = world.facts[subject, name]
        if dice.chance(0.45):
            return self.bare(world, name, value)
        text = pronoun_statement(world, dice, subject, name)
        if (subject, name) in world.myths and dice.chance(0.4):
            text += " " + world.denial(subject, name, world.myths[subject, name])
        return text

    def bare(self, world, name, value):
        """A value alone as the answer, such as "In the forest.", from its template."""
        short = RELATIONS[name].short
        return capital(short.format(v=value_phrase(name, value))) + "."

    def partial(self, world, spec, dice):
        return dice.pick(("I do not know.", "I am not sure.", "I cannot say."))

    def wrong(self, world, spec, dice):
        subject, name = self.key(spec)
        value = world.false_value(dice, subject, name)
        if dice.chance(0.5):
            return self.bare(world, name, value)
        return pronoun_statement(world, dice, subject, name, value)

    def judge(self, world, spec, response):
        subject, name = self.key(spec)
        limit = 17 if (subject, name) in world.myths else 14
        said, _ = affirmed_values(response, name)
        said = [value for value in said if value.lower() != subject.lower()]
        if not said:
            return Judgement(0.3 if unsure(response) else 0.0, limit, about=subject)
        right = world.facts[subject, name] in said
        followed = 1.0 / len(said) if right else WRONG_VALUE / len(said)
        return Judgement(followed, limit, true=right / len(said), about=subject)


class Polar(Question):
    """A question whether a statement is true, about every second time a myth."""

    name = "polar"
    weight = 2.0
    shot = ("Answer yes or no.", "Question", "Answer")

    def draw(self, world, dice):
        subject, name = draw_fact(world, dice)
        value = world.facts[subject, name]
        if dice.chance(0.5):
            value = world.false_value(dice, subject, name)
        return {"subject": subject, "relation": name, "value": value}

    def ask(self, world, spec, dice):
        return Ask(self.query(world, spec, dice))

    def query(self, world, spec, dice):
        polar = RELATIONS[spec["relation"]].polar
        return world.phrase(polar, *self.key(spec), spec["value"]) + "?"

    def answer(self, world, spec, dice, yes: bool) -> str:
        """Yes or no, alone or with a statement that says why."""
        if dice.chance(0.4):
            return "Yes." if yes else "No."
        subject, name = self.key(spec)
        if yes:
            text = pronoun_statement(world, dice, subject, name, spec["value"])
            return f"Yes, {lower(text)}"
        other = world.facts[subject, name]
        if other == spec["value"]:
            other = world.false_value(dice, subject, name)
        return f"No, {lower(pronoun_statement(world, dice, subject, name, other))}"

    def ideal(self, world, spec, dice):
        return self.answer(
            world, spec, dice, world.holds(*self.key(spec), spec["value"])
        )

    def wrong(self, world, spec, dice):
        yes = not world.holds(*self.key(spec), spec["value"])
        return self.answer(world, spec, dice, yes)

    def judge(self, world, spec, response):
        said = words(response)
        answers = {word for word in said[:1] if word in {"yes", "no"}}
        if len({"yes", "no"} & set(said)) != 1 or not answers:
            follow = 0.3 if unsure(response) else 0.0
            return Judgement(follow, 14, about=spec["subject"])
        right = ("yes" in answers) == world.holds(*self.key(spec), spec["value"])
        return Judgement(
            1.0 if right else WRONG_VALUE, 14, true=float(right), about=spec["subject"]
        )


class FalsePremise(Question):
    """A question that takes a falsehood for granted: the answer must refute it."""

    name = "false_premise"
    weight = 2.2
    shot = None

    def draw(self, world, dice):
        subject, name = draw_fact(world, dice)
        value = world.false_value(dice, subject, name)
        return {"subject": subject, "relation": name, "value": value}

    def ask(self, world, spec, dice):
        why = world.phrase(
            RELATIONS[spec["relation"]].why, *self.key(spec), spec["value"]
        )
        return Ask(dice.vary("[|Tell me:|Please explain:] {why}?", why=why))

    def ideal(self, world, spec, dice):
        subject, name = self.key(spec)
        denial = world.denial(subject, name, spec["value"])
        if dice.chance(0.3):
            denial = f"That is not true. {denial}"
        return f"{denial} {pronoun_statement(world, dice, subject, name)}"

    def partial(self, world, spec, dice):
        return world.denial(*self.key(spec), spec["value"])

    def wrong(self, world, spec, dice):
        subject, name = self.key(spec)
        text = world.statement(dice, subject, name, spec["value"])[:-1]
        return dice.vary("{text} because [it must.|it is old.|that is the custom.]",
                         text=text)  # fmt: skip

    def judge(self, world, spec, response):
        subject, name = self.key(spec)
        said, denied = affirmed_values(response, name)
        said = [value for value in said if value.lower() != subject.lower()]
        right = world.facts[subject, name] in said
        refuted = spec["value"] in denied or (right and spec["value"] not in said)
        accepts = spec["value"] in said or (
            not refuted and "because" in words(response)
        )
        if unsure(response) and not said:
            return Judgement(0.3, 21, about=subject)
        followed = 0.6 * refuted + 0.4 * (right and len(said) == 1)
        false = [value for value in said if value != world.facts[subject, name]]
        true = 0.0 if accepts or (false and not right) else 1.0 / (1 + len(false))
        return Judgement(followed, 21, true=true, about=subject)


def lower(text: str) -> str:
    """The text with a small first letter, unless it begins with a name."""
    first = text.split(" ", 1)[0].rstrip(".")
    kind = SUBJECT_KIND.get(first)
    return text if kind in {"person", "town"} else text[:1].lower() + text[1:]
