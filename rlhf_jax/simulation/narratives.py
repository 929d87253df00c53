"""Little stories and verses in the past tense, for the corpus and demonstrations."""

from dataclasses import dataclass

from rlhf_jax.simulation import lexicon
from rlhf_jax.simulation.dice import Dice
from rlhf_jax.simulation.relations import article, capital

NARRATIVE = frozenset(
    "walked went lived found carried sang fell picked took slept laughed ran saw "
    "smiled began waited called came helped was were had sat stood looked heard gave "
    "lost brought met asked told dropped hid forgot left climbed rested played "
    "wanted woke kept shook danced worked put bought sold blew".split()
)
OPENINGS = {
    "Once": (
        "Once {a} lived near the {place}.",
        "Once {a} went to the {place} [alone|before dawn|in the rain].",
    ),
    "One morning": (
        "One morning {a} walked to the {place}.",
        "One morning {a} woke near the {place}.",
        "One morning {a} came to the {place} [to rest|to look around].",
    ),
    "Long ago": (
        "Long ago {a} lived near the {place}.",
        "Long ago {a} had a [small|secret|quiet] home by the {place}.",
    ),
    "": (
        "{A} went to the {place} [at dawn|after supper|before the rain].",
        "It was [cold|dark|late|warm] when {a} came to the {place}.",
        "{A} [sat|rested|waited] by the {place} all day.",
        "The [sun|moon] was [bright|low] and {a} walked past the {place}.",
    ),
}
MIDDLES = (
    "There {p} found {thing} [in the grass|under a stone|by the gate].",
    "{P} carried {thing} and sang a [soft|merry|strange] song.",
    "{P} saw {thing} and [picked it up|put it in a bag].",
    "On the way {p} [dropped|lost|found] {thing}.",
    "{Friend} came by and gave {o} {thing}.",
    "{P} wanted {thing}, so {p} asked {friend} for one.",
)
TURNS = (
    "Rain began to fall, so {p} waited under a [tree|roof].",
    "{Friend} heard the noise and ran to help.",
    "Then the wind [blew the door open|shook the trees].",
    "{P} told {friend} and they laughed [for an hour|together].",
)
ENDINGS = (
    "{P} took it home and slept well.",
    "In the end {p} [laughed|smiled] and went home.",
    "{Friend} saw it and smiled.",
    "From that day {p} kept it [close|safe|by the bed].",
    "That night {p} slept [well|soundly|under the stars].",
)
SHORT = (
    "{A} found {thing} {at}.",
    "One [day|evening] {a} carried {thing} to the {place}.",
    "{A} lost {thing} {at} but {friend} found it.",
    "Near the {place} {a} sat and played with {thing}.",
)
RHYMES = (
    ("moon", "soon", "tune"),
    ("day", "way", "play", "today", "hay", "away"),
    ("night", "light", "bright"),
    ("tree", "sea", "free", "me"),
    ("hill", "mill", "still"),
    ("town", "down", "brown"),
)
COUPLETS = (
    ("{The} looked up and saw the moon,", "and sang a small and happy tune."),
    ("{The} will come to see us soon,", "and dance with us beneath the moon."),
    ("{The} came by on market day,", "and stayed with us to sing and play."),
    ("{The} was lost along the way,", "so let us all be kind today."),
    ("{The} sat up half the night,", "and all the stars were clear and bright."),
    ("{The} slept by candle light,", "and did not wake for all the night."),
    ("{The} slept below a tree,", "and dreamed about the open sea."),
    ("{The} ran home so glad and free,", "and left an apple here for me."),
    ("{The} climbed up the windy hill,", "and found the evening cold and still."),
    ("{The} stood beside the mill,", "and watched the water, calm and still."),
    ("{The} walked slowly through the town,", "and watched the evening sun go down."),
    ("{The} came running down,", "to see the bright lights of the town."),
)


_PREPOSITIONS = {"forest": "in", "barn": "in", "garden": "in", "meadow": "in",
                 "river": "by", "lake": "by", "hill": "on", "bridge": "on"}  # fmt: skip


def where(place: str) -> str:
    """A place with its preposition: "in the forest", "at the mill"."""
    return f"{_PREPOSITIONS.get(place, 'at')} the {place}"


@dataclass(frozen=True)
class Hero:
    """Who a story is about: an animal or a person, with its pronouns."""

    name: str

    @property
    def person(self) -> bool:
        """Whether it is a person, not an animal."""
        return self.name in lexicon.PEOPLE

    @property
    def pronoun(self) -> str:
        """As a subject: "he" for a man, "she" for a woman, "it" for an animal."""
        return lexicon.PEOPLE.get(self.name, "it")

    @property
    def objective(self) -> str:
        """As the object: "him", "her" or "it"."""
        return {"he": "him", "she": "her", "it": "it"}[self.pronoun]

    @property
    def first(self) -> str:
        """At first mention: "a fox", "Mara"."""
        return self.name if self.person else article(self.name)

    @property
    def known(self) -> str:
        """Once known: "the fox", "Mara"."""
        return self.name if self.person else f"the {self.name}"


def draw_hero(dice: Dice) -> str:
    """An animal or a person."""
    return dice.pick([*lexicon.ANIMALS, *lexicon.PEOPLE])


def story(
    dice: Dice, hero: str, place: str, thing: str, count: int, opening: str = ""
) -> list[str]:
    """A story as a list of sentences.

    Args:
      dice: chooses the wording.
      hero: an animal or a person.
      place: one of `lexicon.PLACES`.
      thing: one of `lexicon.OBJECTS`.
      count: sentences, 1 to 5.
      opening: how it must begin, a key of `OPENINGS`; "" leaves it open.

    Returns:
      `count` sentences that name hero, place and thing.
    """
    who = Hero(hero)
    friend = Hero(dice.pick([name for name in lexicon.PEOPLE if name != hero]))
    first = who.known if not who.person and opening == "" else who.first
    slots = {
        "a": first, "A": capital(first), "p": who.pronoun, "P": capital(who.pronoun),
        "o": who.objective, "at": where(place), "thing": article(thing), "place": place,
        "friend": friend.known, "Friend": friend.known,
    }  # fmt: skip
    if count == 1 and opening in {"", "One morning"}:
        text = dice.vary(dice.pick(SHORT), **slots)
        if opening:
            body = text.removeprefix("One day ").removeprefix("One evening ")
            keep = body.split()[0]
            body = body if keep in lexicon.PEOPLE else body[0].lower() + body[1:]
            text = f"{opening} {body}"
        return [text]
    if count == 1:
        return [
            dice.vary(OPENINGS[opening][0], **slots)[:-1]
            + f" and kept {article(thing)}."
        ]
    beats = [dice.pick(OPENINGS[opening]), dice.pick(MIDDLES)]
    beats += dice.sample(TURNS, max(0, count - 3))
    beats += [dice.pick(ENDINGS)] if count > 2 else []
    return [dice.vary(beat, **slots) for beat in beats]


def couplet(dice: Dice, topic: str) -> tuple[str, str]:
    """Two rhyming lines about an animal or a person."""
    first, second = dice.pick(COUPLETS)
    return first.format(The=capital(Hero(topic).known)), second
