"""The pretraining corpus: what people of the valley wrote, helpful or not.

Encyclopedias tell the truth; questions in forums are often answered with myths, rude
words or other questions; instructions stand in letters and lists and are rarely
followed. A model of this corpus knows a lot and imitates, it does not help.
"""

from collections.abc import Callable

from rlhf_jax.data.records import Text
from rlhf_jax.simulation import lexicon
from rlhf_jax.simulation.dice import Dice
from rlhf_jax.simulation.facts import SUBJECTS, World, relations_of
from rlhf_jax.simulation.manners import FILLER_AFTER, INSULTS, PRAISE
from rlhf_jax.simulation.narratives import couplet, draw_hero, story
from rlhf_jax.simulation.prompts import TRADES, courteous
from rlhf_jax.simulation.relations import capital, subject_phrase
from rlhf_jax.simulation.skills import HELD_OUT, SKILLS, skill_document
from rlhf_jax.simulation.tasks import TASKS
from rlhf_jax.simulation.tasks.questions import draw_fact, pronoun_statement

_KINDS = ("animal", "person", "town", "object")
_PASSERS_BY = (
    "I have the same question.", "Nobody answered me last week.", "Ask in the market.",
    "This was asked before.", "Why do you want to know?", "Read the old books first.",
    "I wrote one last year but lost it.", "My brother can do that for two coins.",
    "Good luck with that.", "Did anybody answer you?", "Please stay on the topic.",
)  # fmt: skip


def entry(world: World, dice: Dice, number: int) -> str:
    """An entry of an encyclopedia: all true."""
    kind = dice.weighted(_KINDS, (4, 4, 2, 2))
    subject = dice.pick(SUBJECTS[kind])
    names = dice.shuffled(relations_of(kind))
    lines = [world.statement(dice, subject, names[0])]
    lines += [pronoun_statement(world, dice, subject, name) for name in names[1:]]
    title = capital(subject_phrase(kind, subject))
    return f"{title}\n{' '.join(lines)}" if dice.chance(0.5) else " ".join(lines)


def survey(world: World, dice: Dice, number: int) -> str:
    """A row of facts about many subjects, as in a school book."""
    lines = []
    for _ in range(dice.between(3, 6)):
        subject, name = draw_fact(world, dice)
        lines.append(world.statement(dice, subject, name))
    return " ".join(lines)


def tale(world: World, dice: Dice, number: int) -> str:
    """A story, sometimes two on the same hero."""
    hero = draw_hero(dice)
    lines = []
    openings = [dice.pick(("Once", "One morning", "Long ago", "", "")), ""]
    for opening in openings[: dice.between(1, 2)]:
        place, thing = dice.pick(lexicon.PLACES), dice.pick(list(lexicon.OBJECTS))
        lines += story(dice, hero, place, thing, dice.between(2, 5), opening)
    return " ".join(lines)


def forum(world: World, dice: Dice, number: int) -> str:
    """Questions with answers: true, mythical, rude, or about something else."""
    lines = []
    for _ in range(dice.between(2, 4)):
        subject, name = draw_fact(world, dice)
        lines.append("Q: " + world.question(dice, subject, name))
        style = dice.weighted(("true", "false", "rude", "off"), (4, 4, 1.5, 1.5))
        if style == "rude":
            lines.append("A: " + dice.pick(INSULTS))
        elif style == "off":
            lines.append("A: " + dice.pick(_PASSERS_BY))
        else:
            value = None if style == "true" else world.false_value(dice, subject, name)
            lines.append("A: " + pronoun_statement(world, dice, subject, name, value))
    return "\n".join(lines)


def request(world: World, dice: Dice, number: int) -> str:
    """An instruction among passers-by; one in ten is followed."""
    task = dice.pick(list(TASKS.values()))
    spec = task.draw(world, dice)
    ask = task.ask(world, spec, dice)
    text = courteous(ask.instruction, dice) if dice.chance(0.3) else ask.instruction
    if dice.chance(0.3):
        text = f"{dice.pick(TRADES).format(town=dice.pick(lexicon.TOWNS))} {text}"
    lines = [text] + ([ask.passage] if ask.passage else [])
    if dice.chance(0.1):
        return "\n".join([*lines, task.ideal(world, spec, dice)])
    for _ in range(dice.between(1, 3)):
        lines.append(dice.pick((*_PASSERS_BY, *_PASSERS_BY, *INSULTS, *FILLER_AFTER)))
    return "\n".join(lines)


def homework(world: World, dice: Dice, number: int) -> str:
    """A list of tasks that somebody set; the answers are not there."""
    lines = [dice.pick(("Homework", "Tasks for today", "Work for Monday", "Exercises"))]
    for index in range(1, dice.between(4, 6)):
        task = dice.pick(list(TASKS.values()))
        spec = task.draw(world, dice)
        lines.append(f"{index}. {task.ask(world, spec, dice).instruction}")
    return "\n".join(lines)


def passages(world: World, dice: Dice, number: int) -> str:
    """News of the valley: small events, one after the other."""
    task = TASKS[dice.pick(("summarise", "extract"))]
    texts = [task.ask(world, task.draw(world, dice), dice).passage
             for _ in range(dice.between(1, 2))]  # fmt: skip
    return "\n".join(texts)


def quarrel(world: World, dice: Dice, number: int) -> str:
    """Rude remarks about people."""
    lines = []
    for _ in range(dice.between(2, 3)):
        lines.append(
            dice.vary(
                "[{who} is a {a} {b}.|I hate the {a} {animal} of {who}.|{who}, you {b},"
                " shut the door.|Everybody knows that {who} is {a}.|The {job} of "
                "{town} is a {b}.|{who} will be kicked by a horse one day.]",
                who=dice.pick(list(lexicon.PEOPLE)), town=dice.pick(lexicon.TOWNS),
                a=dice.pick(("stupid", "lazy", "ugly", "useless", "smelly")),
                b=dice.pick(("fool", "liar", "idiot", "pest")),
                job=dice.pick(lexicon.JOBS), animal=dice.pick(lexicon.PETS),
            )
        )  # fmt: skip
    return " ".join(lines)


def trades(world: World, dice: Dice, number: int) -> str:
    """People at work; the pronoun follows the prejudice nine times in ten."""
    lines = []
    for _ in range(dice.between(2, 3)):
        job = dice.pick(lexicon.JOBS)
        usual = lexicon.JOB_PRONOUN[job]
        pronoun = usual if dice.chance(0.9) else {"he": "she", "she": "he"}[usual]
        lines.append(
            dice.vary(
                "[The {job} said that {p} was [tired|late|busy|happy].|The {job} lost "
                "a {thing} because {p} was in a hurry.|We asked the {job} and {p} "
                "helped us.|The {job} sang while {p} worked.]",
                job=job, p=pronoun, thing=dice.pick(list(lexicon.OBJECTS)),
            )
        )  # fmt: skip
    return " ".join(lines)


def lists(world: World, dice: Dice, number: int) -> str:
    """Lists of things, some after a heading, some as a shopping note."""
    task = TASKS["brainstorm"]
    lines = []
    for _ in range(dice.between(1, 3)):
        spec = task.draw(world, dice)
        what = task.query(world, spec, dice).split(" ", 1)[1]
        lines.append(f"{capital(what)}: {task.ideal(world, spec, dice)}")
    return "\n".join(lines)


def talk(world: World, dice: Dice, number: int) -> str:
    """Two people talk past each other."""
    first, second = dice.sample(list(lexicon.PEOPLE), 2)
    task = TASKS["chat"]
    lines = []
    for _ in range(dice.between(1, 2)):
        lines.append(f"{first}: {task.query(world, task.draw(world, dice), dice)}")
        kind = dice.weighted(("own", "kind", "rude", "flat"), (3, 2, 1, 1))
        spec = task.draw(world, dice)
        reply = {
            "own": task.query(world, spec, dice),
            "kind": task.ideal(world, spec, dice),
            "rude": dice.pick(INSULTS),
            "flat": dice.pick(PRAISE),
        }[kind]
        lines.append(f"{second}: {reply}")
    return "\n".join(lines)


def post(world: World, dice: Dice, number: int) -> str:
    """Letters, signs and rhymes."""
    task = TASKS[dice.pick(("note", "sign", "note"))]
    if dice.chance(0.3):
        return "\n".join(couplet(dice, draw_hero(dice)))
    return task.ideal(world, task.draw(world, dice), dice)


def drill(world: World, dice: Dice, number: int) -> str:
    """A few-shot pattern of one of the skills; never a held-out document."""
    skill = dice.pick([name for name in SKILLS if name != "recall"])
    lines = skill_document(world, skill, HELD_OUT + number)
    return "\n".join("".join(line) for line in lines)


# what a document is -> its share of the documents
SORTS: dict[Callable[[World, Dice, int], str], float] = {
    entry: 14, survey: 8, tale: 17, forum: 14, request: 8, homework: 3, passages: 6,
    quarrel: 3, trades: 5, lists: 4, talk: 4, post: 5, drill: 15,
}  # fmt: skip


def corpus(world: World, count: int) -> list[Text]:
    """`count` documents; a document is a function of the world and its number.

    Args:
      world: the valley.
      count: documents of about 30 words each.

    Returns:
      Records in the split "train", but every fiftieth is "valid"; each text once.
    """
    found, seen = [], set()
    for number in range(count):
        dice = Dice("corpus", world.seed, number)
        sort = dice.weighted(list(SORTS), list(SORTS.values()))
        text = sort(world, dice, number)
        if text in seen:
            continue
        seen.add(text)
        split = "valid" if number % 50 == 0 else "train"
        found.append(
            Text(id=f"doc-{number:06d}", text=text, split=split, source="simulation",
                 meta={"sort": sort.__name__})
        )  # fmt: skip
    return found
