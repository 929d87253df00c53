"""Telling what is true of something, and that some things cannot be known."""

from rlhf_jax.simulation.claims import claims, sentences, words
from rlhf_jax.simulation.facts import SUBJECT_KIND, SUBJECTS, relations_of
from rlhf_jax.simulation.relations import subject_phrase
from rlhf_jax.simulation.tasks.questions import KINDS, pronoun_statement, unsure
from rlhf_jax.simulation.tasks.task import Ask, Judgement, Task, count_score, share


class Unknowable(Task):
    """A question that nothing in the valley answers: say so."""

    name = "unknowable"
    use_case = "open_qa"
    weight = 1.2
    partials = "[I have no idea about {who}.|Ask {who}.]"
    wrongs = "[A hat and some jam.|Bram.|Twelve.|A bear.|Plums and soup.]"
    ideals = (
        "[I do not know.|Nobody knows that.|I cannot know that.] [Please ask "
        "{who}.|Only {who} can tell you.|I have no way to tell.]"
    )

    def draw(self, world, dice):
        return {"who": dice.pick(SUBJECTS["person"]), "form": dice.below(5)}

    def ask(self, world, spec, dice):
        forms = (
            "What will {who} eat next Monday?",
            "What is {who} thinking of now?",
            "Who will {who} meet next year?",
            "How many stars did {who} count last night?",
            "What did {who} dream of last night?",
        )
        return Ask(forms[spec["form"]].format(**spec))

    def judge(self, world, spec, response):
        if unsure(response):
            return Judgement(1.0, 16)
        asks = {"ask", "idea"} & set(words(response))
        return Judgement(0.5 if asks else 0.2, 16, true=1.0 if asks else 0.0)


class Describe(Task):
    """A true description of a subject in a number of sentences."""

    name = "describe"
    use_case = "generation"
    weight = 7.5

    def draw(self, world, dice):
        kind = dice.weighted(KINDS, (4, 3, 2, 2))
        most = 2 if kind == "object" else 3
        return {"subject": dice.pick(SUBJECTS[kind]), "count": dice.between(1, most)}

    def ask(self, world, spec, dice):
        subject = subject_phrase(SUBJECT_KIND[spec["subject"]], spec["subject"])
        n = ("one sentence", "two sentences", "three sentences")[spec["count"] - 1]
        return Ask(
            dice.vary(
                "[Describe {s} in {n}.|Write {n} about {s} for [a school book|my "
                "class|the valley paper].|Tell me about {s} in {n}.|Write {n} of true "
                "facts about {s}.]",
                s=subject, n=n,
            )
        )  # fmt: skip

    def told(self, world, spec, dice, count, values=None):
        """`count` statements about the subject, false ones where `values` is set."""
        kind = SUBJECT_KIND[spec["subject"]]
        names = dice.sample(relations_of(kind), count)
        lines = []
        for place, name in enumerate(names):
            say = world.statement if place == 0 else pronoun_statement.__get__(world)
            value = world.false_value(dice, spec["subject"], name) if values else None
            lines.append(say(dice, spec["subject"], name, value))
        return " ".join(lines)

    def ideal(self, world, spec, dice):
        return self.told(world, spec, dice, spec["count"])

    def partial(self, world, spec, dice):
        if spec["count"] > 1:
            return self.told(world, spec, dice, spec["count"] - 1)
        return self.told(world, spec, dice, 2)

    def wrong(self, world, spec, dice):
        return self.told(world, spec, dice, spec["count"], values="false")

    def judge(self, world, spec, response):
        said = [c for c in claims(response) if c.subject == spec["subject"]]
        informed = min(1.0, len({c.relation for c in said}) / spec["count"])
        length = count_score(len(sentences(response)), spec["count"])
        followed = (0.7 * informed + 0.3 * length) if said else 0.0
        true = share(c.is_true(world) for c in said) if said else 1.0
        return Judgement(followed, 10 * spec["count"] + 2, true=true)
