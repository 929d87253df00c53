"""The relations of the valley and the ways to state, ask and deny them.

A template holds `[a|b]` alternatives and the slots {s} the subject ("the fox", "Mara"),
{S} the same at the start of a sentence, {v} the value as said ("in the forest") and
{base} the value as a bare verb ("bark").
"""

from dataclasses import dataclass

from rlhf_jax.simulation import lexicon


@dataclass(frozen=True)
class Relation:
    """One relation: from the subjects of one kind to the values of one domain.

    Attributes:
      name: its key.
      subject: "animal", "person", "town" or "object".
      domain: every value it can take.
      cues: words of which one must stand in a sentence for it to state this relation;
        empty where the value itself is the cue.
      state, ask, polar, why, deny: templates (see the module).
      short: template of a bare answer.
    """

    name: str
    subject: str
    domain: tuple[str, ...]
    cues: frozenset[str]
    state: tuple[str, ...]
    ask: tuple[str, ...]
    polar: str
    why: str
    deny: str
    short: str = "{v}"


def relation(name, subject, domain, cues, **templates) -> Relation:
    """A `Relation` from a table's row.

    Args:
      name, subject, domain: as in `Relation`.
      cues: its cue words, between spaces.
      templates: `state`, `ask`, `polar`, `deny`; `why` where it is not the polar
        question behind "Why", and `short` where it differs.
    """
    polar = templates["polar"]
    templates = {"why": f"Why {polar[0].lower()}{polar[1:]}", **templates}
    return Relation(name, subject, tuple(domain), frozenset(cues.split()), **templates)


RELATIONS = {
    entry.name: entry
    for entry in (
        relation(
            "food", "animal", lexicon.FOODS, "eat eats food feeds",
            state=("{S} eats {v}", "The food of {s} is {v}", "{S} feeds on {v}"),
            ask=("What does {s} eat", "What is the food of {s}",
                 "What does {s} feed on"),
            polar="Does {s} eat {v}", deny="{S} does not eat {v}",
        ),
        relation(
            "home", "animal", lexicon.HOMES, "lives live home",
            state=("{S} lives {v}", "The home of {s} is {v}", "{S} makes its home {v}"),
            ask=("Where does {s} live", "Where does {s} make its home",
                 "Where is the home of {s}"),
            polar="Does {s} live {v}", deny="{S} does not live {v}",
        ),
        relation(
            "kind", "animal", lexicon.KINDS, "is kind",
            state=("{S} is {v}",),
            ask=("What kind of animal is {s}",),
            polar="Is {s} {v}", deny="{S} is not {v}",
        ),
        relation(
            "sound", "animal", lexicon.SOUNDS, "",
            state=("{S} {v}", "At night {s} {v}", "When it is happy {s} {v}"),
            ask=("What sound does {s} make", "What noise does {s} make"),
            polar="Is it true that {s} {v}", why="Why is it that {s} {v}",
            deny="{S} does not {base}", short="It {v}",
        ),
        relation(
            "colour", "animal", lexicon.COLOURS, "is colour",
            state=("{S} is {v}", "The colour of {s} is {v}"),
            ask=("What colour is {s}", "What is the colour of {s}"),
            polar="Is {s} {v}", deny="{S} is not {v}",
        ),
        relation(
            "job", "person", lexicon.JOBS, "is works work job",
            state=("{S} is {v}", "{S} works as {v}"),
            ask=("What is the job of {s}", "What does {s} do for work",
                 "What work does {s} do"),
            polar="Is {s} {v}", deny="{S} is not {v}",
        ),
        relation(
            "town", "person", lexicon.TOWNS, "lives live home",
            state=("{S} lives in {v}", "The home of {s} is in {v}"),
            ask=("Where does {s} live", "In which town does {s} live",
                 "Where is the home of {s}"),
            polar="Does {s} live in {v}", deny="{S} does not live in {v}",
        ),
        relation(
            "pet", "person", lexicon.PETS, "keeps keep has pet",
            state=("{S} keeps {v}", "The pet of {s} is {v}", "{S} has {v}"),
            ask=("What pet does {s} have", "Which animal does {s} keep",
                 "What is the pet of {s}"),
            polar="Does {s} keep {v}", deny="{S} does not keep {v}",
        ),
        relation(
            "treat", "person", lexicon.TREATS, "loves love likes like favourite",
            state=("{S} loves {v}", "The favourite food of {s} is {v}",
                   "Most of all {s} likes {v}"),
            ask=("What food does {s} love", "What is the favourite food of {s}",
                 "What does {s} like to eat"),
            polar="Does {s} love {v}", deny="{S} does not love {v}",
        ),
        relation(
            "river", "town", lexicon.RIVERS, "river lies runs",
            state=("{S} lies on the river {v}", "The river {v} runs through {s}"),
            ask=("Which river runs through {s}", "On which river does {s} lie"),
            polar="Does the river {v} run through {s}",
            deny="{S} does not lie on the river {v}", short="The {v}",
        ),
        relation(
            "craft", "town", lexicon.CRAFTS, "known makes make famous",
            state=("{S} is known for its {v}", "{S} makes fine {v}",
                   "{S} is famous for its {v}"),
            ask=("What is {s} known for", "What does {s} make",
                 "For what is {s} famous"),
            polar="Is {s} known for its {v}", deny="{S} is not known for {v}",
        ),
        relation(
            "direction", "town", lexicon.DIRECTIONS, "valley lies",
            state=("{S} lies in the {v} of the valley",
                   "{S} is in the {v} of the valley"),
            ask=("In which part of the valley is {s}", "Where in the valley is {s}"),
            polar="Is {s} in the {v} of the valley",
            deny="{S} is not in the {v} of the valley", short="In the {v}",
        ),
        relation(
            "fair", "town", lexicon.DAYS, "fair",
            state=("The fair of {s} is on {v}", "{S} has its fair on {v}"),
            ask=("On which day is the fair of {s}", "When is the fair of {s}"),
            polar="Is the fair of {s} on {v}",
            deny="The fair of {s} is not on {v}", short="On {v}",
        ),
        relation(
            "material", "object", lexicon.MATERIALS, "made make",
            state=("{S} is made of {v}", "People make {s} of {v}"),
            ask=("What is {s} made of", "Of what do people make {s}"),
            polar="Is {s} made of {v}", deny="{S} is not made of {v}",
        ),
        relation(
            "room", "object", lexicon.ROOMS, "kept keep find stored",
            state=("{S} is kept in the {v}", "You find {s} in the {v}"),
            ask=("Where is {s} kept", "Where do you find {s}"),
            polar="Is {s} kept in the {v}",
            deny="{S} is not kept in the {v}", short="In the {v}",
        ),
    )
}  # fmt: skip

# the verbs that state a relation
PRESENT = frozenset(
    "is are eat eats feed feeds live lives make makes work works keep keeps has have "
    "love loves like likes lie lies run runs find does do".split()
) | frozenset(lexicon.SOUNDS)
_ON = {"hill", "farm"}
_BASES = {"hisses": "hiss", "buzzes": "buzz"}


def article(noun: str) -> str:
    """The noun with a or an.

    >>> article("owl"), article("fox")
    ('an owl', 'a fox')
    """
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"


def bare_verb(verb: str) -> str:
    """The verb without its -s, as after "does not"."""
    return _BASES.get(verb, verb.removesuffix("s"))


def value_phrase(name: str, value: str) -> str:
    """A value as it stands in a sentence of its relation.

    >>> value_phrase("home", "hill"), value_phrase("job", "nurse")
    ('on the hill', 'a nurse')
    """
    if name == "home":
        return f"{'on' if value in _ON else 'in'} the {value}"
    if name in {"kind", "job", "pet"}:
        return article(value)
    return value


def subject_phrase(kind: str, subject: str) -> str:
    """The subject with its article where it needs one."""
    return f"the {subject}" if kind in {"animal", "object"} else subject


def capital(text: str) -> str:
    """The text with its first letter in upper case."""
    return text[:1].upper() + text[1:]
