"""Users and their prompts: ten use cases, three kinds, each in the user's own way."""

from dataclasses import dataclass

from rlhf_jax.data.records import Prompt
from rlhf_jax.simulation.dice import Dice
from rlhf_jax.simulation.facts import World
from rlhf_jax.simulation.lexicon import TOWNS
from rlhf_jax.simulation.tasks import TASKS, USE_CASES

KIND_SHARES = {"plain": 0.62, "few-shot": 0.18, "user-based": 0.20}
SPLIT_SHARES = {"train": 0.8, "valid": 0.1, "test": 0.1}
TRADES = (
    "I keep a small inn in {town}.", "I teach young children in {town}.",
    "I write for the paper of {town}.", "I run a shop in {town}.",
    "I am making a book about the valley.", "I look after the library of {town}.",
    "I plan the fair of {town}.", "I am learning to read and write.",
    "I work for the town of {town}.", "I tell tales to my children at night.",
)  # fmt: skip

_VERBS = ("Write", "Make", "Give", "List", "Name", "Tell", "Describe", "Help", "Sum",
          "Say", "Put", "Rewrite", "Find", "Think", "Suggest", "Label",
          "Copy")  # fmt: skip


@dataclass(frozen=True)
class User:
    """Somebody who asks, with the habits that make their prompts their own.

    Attributes:
      id: "u00017".
      split: "train", "valid" or "test"; all their prompts are in it.
      about: what they tell of themselves in user-based prompts.
      courtesy: how often they say please or thank you.
      casual: they write without capitals and full stops.
    """

    id: str
    split: str
    about: str
    courtesy: float
    casual: bool


def make_user(seed: int, index: int) -> User:
    """The user of a number; the split is drawn with the shares of `SPLIT_SHARES`."""
    dice = Dice("user", seed, index)
    return User(
        id=f"u{index:05d}",
        split=dice.weighted(list(SPLIT_SHARES), list(SPLIT_SHARES.values())),
        about=dice.pick(TRADES).format(town=dice.pick(TOWNS)),
        courtesy=0.5 * dice.unit(),
        casual=dice.chance(0.12),
    )


def draw_task(dice: Dice, use_case: str, kind: str):
    """A task of a use case that can be asked in this kind, None where there is none."""
    able = [
        task for task in TASKS.values()
        if task.use_case == use_case and (kind != "few-shot" or task.shot)
    ]  # fmt: skip
    return dice.weighted(able, [task.weight for task in able]) if able else None


def draw_use_case(dice: Dice) -> str:
    """A use case with the shares of Table 1."""
    return dice.weighted(list(USE_CASES), list(USE_CASES.values()))


def make_prompt(
    world: World, user: User, dice: Dice, name: str, use_case: str | None = None
) -> Prompt:
    """A prompt of a user: use case by Table 1's shares, then kind, task and words.

    Args:
      world: the valley.
      user: who asks.
      dice: chooses everything.
      name: the record's id.
      use_case: a key of `USE_CASES`; drawn where it is None.

    Returns:
      A record whose prompt ends with a newline and whose meta holds "world", "task",
      "spec" (what `utility` needs) and "closed_domain".
    """
    use_case = use_case or draw_use_case(dice)
    kind = dice.weighted(list(KIND_SHARES), list(KIND_SHARES.values()))
    task = draw_task(dice, use_case, kind)
    if task is None:
        kind = dice.weighted(("plain", "user-based"), (3, 1))
        task = draw_task(dice, use_case, kind)
    spec = task.draw(world, dice)
    if kind == "few-shot":
        text = few_shot_text(world, task, spec, dice)
    else:
        text = spoken(world, task, spec, dice, user, kind)
    meta = {"world": world.seed, "task": task.name, "spec": spec,
            "closed_domain": task.closed}  # fmt: skip
    return Prompt(
        id=name, prompt=text, user=user.id, split=user.split, use_case=use_case,
        kind=kind, source="simulation", meta=meta,
    )  # fmt: skip


def few_shot_text(world, task, spec, dice) -> str:
    """An instruction, two or three examples with answers, and the query."""
    _, asked, answered = task.shot
    lines = [task.heading(spec)]
    short = len(task.query(world, spec, dice)) < 25
    for _ in range(dice.between(2, 3) if short else 2):
        other = task.similar(world, spec, dice)
        answer = task.ideal(world, other, dice).replace("\n", ", ")
        lines += [f"{asked}: {task.query(world, other, dice)}", f"{answered}: {answer}"]
    lines += [f"{asked}: {task.query(world, spec, dice)}", f"{answered}:"]
    return "\n".join(lines) + "\n"


def spoken(world, task, spec, dice, user: User, kind: str) -> str:
    """The instruction in the user's words, with the passage it is about."""
    ask = task.ask(world, spec, dice)
    text = ask.instruction
    if dice.chance(user.courtesy) and not text.endswith("?"):
        text = courteous(text, dice)
    if kind == "user-based":
        text = f"{user.about} {text}"
    if user.casual:
        text = text[:1].lower() + text[1:].rstrip(".")
    if ask.passage is None:
        return text + "\n"
    if text.endswith(":") or dice.chance(0.7):
        return f"{text}\n{ask.passage}\n"
    return f"{ask.passage}\n{text}\n"


def courteous(text: str, dice: Dice) -> str:
    """An instruction with please before it or thanks after it."""
    if not text.startswith(_VERBS):
        return text
    text = f"Please {text[0].lower()}{text[1:]}"
    return text if text.endswith(":") or dice.chance(0.7) else f"{text} Thank you."
