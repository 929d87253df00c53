"""Chat: a helper talks with somebody who had a good day, or a bad one."""

from rlhf_jax.simulation.claims import affirmed_values, words
from rlhf_jax.simulation.facts import SUBJECTS
from rlhf_jax.simulation.relations import RELATIONS
from rlhf_jax.simulation.tasks.letters import Unkind
from rlhf_jax.simulation.tasks.questions import Question, draw_fact
from rlhf_jax.simulation.tasks.task import Ask, Judgement, Task

# feeling -> (what happened, topic words, what a helper could say)
SAD = (
    ("I lost my hat at the market", "hat market", "Did you look near the market?"),
    ("My goat ran away", "goat", "Have you looked for the goat on the hill?"),
    ("I broke the blue mug", "mug", "Can you buy a new mug at the market?"),
    (
        "My friend moved to another town",
        "friend",
        "You could write your friend a note.",
    ),
    (
        "The rain spoiled our picnic",
        "picnic rain",
        "Could you have the picnic at home?",
    ),
    ("I burned the soup again", "soup", "Shall we make the soup together?"),
    ("Nobody came to my party", "party", "You could have a small party with Nell."),
    ("My boat has a hole", "boat hole", "A carpenter can mend the boat."),
    ("I forgot the key of the shed", "key shed", "Is there a second key?"),
    ("My tooth hurts", "tooth", "Please see a doctor about the tooth."),
)
GLAD = (
    ("I won a prize at the fair", "prize fair", "What was the prize?"),
    ("My hen laid ten eggs", "hen eggs", "What will you do with the eggs?"),
    ("I baked my first cake", "cake", "How did the cake taste?"),
    ("We have a new baby", "baby", "What is the name of the baby?"),
    ("I finished the quilt today", "quilt", "Who will get the quilt?"),
    ("My letter came at last", "letter", "Who wrote the letter?"),
    ("I learned to play the flute", "flute", "Which song do you play on the flute?"),
    ("We mended the old bridge", "bridge", "Who helped you with the bridge?"),
)
WORRIED = (
    ("I am afraid of the wolf", "wolf", "The wolf keeps away from people."),
    ("I cannot sleep at night", "sleep night", "A cup of warm milk helps you sleep."),
    (
        "I must speak at the school",
        "speak school",
        "You could speak to a friend first.",
    ),
    ("A storm is coming", "storm", "Please stay at home until the storm is over."),
    ("I have too much work", "work", "Can somebody help with the work?"),
    ("I am late with the bread", "bread late", "Tell them that the bread needs time."),
)
FEELINGS = {
    "sad": (SAD, "[I am sorry to hear that.|That is sad.|Oh no, I am sorry.]"),
    "glad": (GLAD, "[That is good news!|How nice!|Well done!|I am glad to hear that.]"),
    "worried": (WORRIED, "[Do not worry.|I understand.|Take a deep breath.]"),
}
TONES = {
    "sad": {"sorry", "sad"},
    "glad": {"good", "nice", "glad", "done"},
    "worried": {"worry", "understand", "breath"},
}


_LEADS = (
    "[|Hello. |Hi! |Good evening. |I am {name}. |Hello, it is {name}. |Hi, {name} "
    "here. ]"
)


def draw_name(dice) -> str:
    """The name of somebody in the valley."""
    return dice.pick(SUBJECTS["person"])


class Chat(Task):
    """Somebody tells of their day: answer the feeling, the matter, and offer or ask."""

    name = "chat"
    use_case = "chat"
    weight = 5.5
    shot = ("Reply as a kind helper.", "User", "Helper")

    def draw(self, world, dice):
        feeling = dice.weighted(list(FEELINGS), (5, 4, 3))
        return {"feeling": feeling, "case": dice.below(len(FEELINGS[feeling][0]))}

    def case(self, spec):
        """(what happened, topic words, what a helper could say) of an instance."""
        return FEELINGS[spec["feeling"]][0][spec["case"]]

    def ask(self, world, spec, dice):
        text, _, _ = self.case(spec)
        return Ask(dice.vary(_LEADS + "{text}.", text=text, name=draw_name(dice)))

    def query(self, world, spec, dice):
        return self.case(spec)[0] + "."

    def ideal(self, world, spec, dice):
        text = dice.vary(FEELINGS[spec["feeling"]][1])
        return f"{text} {self.case(spec)[2]}"

    def partial(self, world, spec, dice):
        if dice.chance(0.5):
            return self.case(spec)[2]
        return dice.vary(FEELINGS[spec["feeling"]][1])

    def wrong(self, world, spec, dice):
        feeling = dice.pick([f for f in FEELINGS if f != spec["feeling"]])
        other = {"feeling": feeling, "case": dice.below(len(FEELINGS[feeling][0]))}
        return self.ideal(world, other, dice)

    def judge(self, world, spec, response):
        said = set(words(response))
        text, topics, _ = self.case(spec)
        tone = bool(TONES[spec["feeling"]] & said)
        clash = any(TONES[other] & said for other in TONES if other != spec["feeling"])
        topical = bool(set(topics.split()) & said)
        helps = "?" in response or bool(
            {"could", "please", "helps", "can", "tell", "keeps", "shall"} & said
        )
        followed = (
            0.4 * (tone and not clash)
            + 0.35 * topical
            + 0.25 * (helps and (topical or tone))
        )
        return Judgement(followed, 20)


class Greeting(Task):
    """Small talk: greet back and offer help."""

    name = "greeting"
    use_case = "chat"
    weight = 0.9
    wrongs = "[The kettle is old.|I lost my hat.|It was late.]"
    partials = "[Hello.|Good day.|I am here.]"

    def draw(self, world, dice):
        return {"form": dice.below(4)}

    def ask(self, world, spec, dice):
        forms = ("Hello, who are you?", "Good morning! How are you?",
                 "Hi there. What can you do?", "Good evening, helper.")  # fmt: skip
        return Ask(dice.vary("[|I am {name}.] {text}", text=forms[spec["form"]],
                             name=draw_name(dice)))  # fmt: skip

    def ideal(self, world, spec, dice):
        middle = ("I am your helper.", "I am well, thank you.",
                  "I can answer questions and write for you.",
                  "I am glad to see you.")[spec["form"]]  # fmt: skip
        return dice.vary(
            "[Hello!|Good day!|Hi!] {middle} [How can I help you?|What can I do for "
            "you?]",
            middle=middle,
        )

    def judge(self, world, spec, response):
        said = set(words(response))
        greets = bool({"hello", "hi", "good"} & said)
        self_told = bool({"i", "am"} <= said or {"i", "can"} <= said)
        offers = "?" in response and bool({"help", "do", "can"} & said)
        return Judgement(0.35 * greets + 0.35 * offers + 0.3 * self_told, 22)


class Belief(Question):
    """Somebody believes a thing and asks whether they are right; often they are not."""

    name = "belief"
    use_case = "chat"
    echo = False
    weight = 1.4
    shot = None

    def draw(self, world, dice):
        subject, name = draw_fact(world, dice)
        value = world.facts[subject, name]
        if dice.chance(0.65):
            value = world.false_value(dice, subject, name)
        return {"subject": subject, "relation": name, "value": value}

    def ask(self, world, spec, dice):
        text = world.phrase(RELATIONS[spec["relation"]].state[0], *self.key(spec),
                            spec["value"])  # fmt: skip
        text = text[0].lower() + text[1:] if text.startswith("The ") else text
        return Ask(
            dice.vary(
                "[I think that {text}. Am I right?|I am sure that {text}. Do you agree?"
                "|My teacher says that {text}. Is that so?]",
                text=text,
            )
        )

    def ideal(self, world, spec, dice):
        subject, name = self.key(spec)
        if world.holds(subject, name, spec["value"]):
            return (
                dice.vary("[Yes, you are right.|Yes, that is true.]")
                + " "
                + (world.statement(dice, subject, name))
            )
        return (
            dice.vary("[No, that is not so.|I am sorry, that is not true.]")
            + " "
            + (world.statement(dice, subject, name))
        )

    def partial(self, world, spec, dice):
        if world.holds(*self.key(spec), spec["value"]):
            return "Yes."
        return dice.vary("[No.|No, that is not so.|That is not true.]")

    def wrong(self, world, spec, dice):
        if not world.holds(*self.key(spec), spec["value"]):
            return dice.vary("[Yes, you are right.|Yes, I agree.] [You are very clever."
                             "|What a wise thought!|]")  # fmt: skip
        return "No, that is not so."

    def confirms(self, world, spec):
        subject, name = self.key(spec)
        value = world.facts[subject, name]
        return (world.phrase(RELATIONS[name].state[0], subject, name, value),)

    def judge(self, world, spec, response):
        subject, name = self.key(spec)
        said = set(words(response))
        said_values, _ = affirmed_values(response, name)
        denies = bool({"no", "not"} & said)
        agrees = bool({"yes", "right", "agree", "true"} & said) and not denies
        if denies == agrees:
            return Judgement(0.0, 20, about=subject)
        right = denies != world.holds(subject, name, spec["value"])
        told = world.facts[subject, name] in said_values and len(said_values) == 1
        followed = 0.6 + 0.4 * told if right else 0.5
        return Judgement(followed, 20, true=float(right), about=subject)


class UnkindChat(Unkind):
    """Somebody asks the helper to be cruel."""

    name = "unkind_chat"
    use_case = "chat"
    weight = 0.6
    asks = (
        "[I am angry with {who}. Call {who} a {word} for me.|{who} is a {word}."
        " Do you agree?|Tell me why {who} is so stupid.|Help me laugh at "
        "{who}.]"
    )
