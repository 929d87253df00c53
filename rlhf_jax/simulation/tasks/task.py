"""What a task is: draw it, ask for it, answer it well or badly, judge an answer."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rlhf_jax.simulation.claims import words
from rlhf_jax.simulation.dice import Dice
from rlhf_jax.simulation.facts import World

Spec = dict[str, Any]


@dataclass(frozen=True)
class Ask:
    """The wording of a task: an instruction, and the text it is about, if any."""

    instruction: str
    passage: str | None = None


@dataclass(frozen=True)
class Judgement:
    """What a task itself can tell of a response.

    Attributes:
      followed: [0, 1], how far the instruction was followed.
      limit: words; a longer response is not concise.
      true: [0, 1], the task's own measure of truth (a right label, the right value).
      about: the subject that "it" means, for the claims of the response.
      claims_count: whether statements about the valley must be true here; not when
        the task is to work on somebody else's text.
    """

    followed: float
    limit: int
    true: float = 1.0
    about: str | None = None
    claims_count: bool = True


class Task:
    """One kind of task of one use case.

    A spec is a JSON-able dict that says everything needed to judge a response; it
    travels in the prompt's `meta`. `weight` is the task's share of its use case.
    `closed` marks tasks whose answers may name nothing that the prompt does not name.
    `echo` marks tasks where repeating parts of the prompt is the work, `doubles` those
    where saying a thing twice may be.
    `shot` holds (heading, label of the input, label of the output) for few-shot
    prompts, None where the task is too long for them.
    `asks`, `ideals`, `partials` and `wrongs` are templates of `Dice.vary`, filled in
    with the spec; a task whose words need more overrides the method instead.
    """

    name: str
    use_case: str
    weight: float = 1.0
    closed: bool = False
    echo: bool = False
    doubles: bool = False
    shot: tuple[str, str, str] | None = None
    asks: str
    ideals: str
    partials: str
    wrongs: str

    def draw(self, world: World, dice: Dice) -> Spec:
        """A new instance of the task."""
        raise AssertionError(self.name)

    def ask(self, world: World, spec: Spec, dice: Dice) -> Ask:
        """Words for it."""
        return Ask(dice.vary(self.asks, **spec))

    def query(self, world: World, spec: Spec, dice: Dice) -> str:
        """The input of a few-shot example on one line."""
        raise AssertionError(self.name)

    def heading(self, spec: Spec) -> str:
        """The first line of a few-shot prompt."""
        return self.shot[0]

    def similar(self, world: World, spec: Spec, dice: Dice) -> Spec:
        """Another instance that may stand before this one as an example."""
        other = self.draw(world, dice)
        while other == spec:
            other = self.draw(world, dice)
        return other

    def ideal(self, world: World, spec: Spec, dice: Dice) -> str:
        """A response that does everything asked."""
        return dice.vary(self.ideals, **spec)

    def partial(self, world: World, spec: Spec, dice: Dice) -> str:
        """A sensible response that misses a part of the instruction."""
        return dice.vary(self.partials, **spec)

    def wrong(self, world: World, spec: Spec, dice: Dice) -> str:
        """A fluent response that is false or does the wrong thing."""
        return dice.vary(self.wrongs, **spec)

    def confirms(self, world: World, spec: Spec) -> tuple[str, ...]:
        """What an answer may repeat of the prompt without being a copy of it."""
        return ()

    def wordings(self) -> tuple[str, ...]:
        """Answers of every shape, where a sample of ideal ones could miss some."""
        return ()

    def judge(self, world: World, spec: Spec, response: str) -> Judgement:
        """How well a response does it."""
        raise AssertionError(self.name)


def share(present: Iterable[bool]) -> float:
    """The share of conditions that hold, 0 for none.

    >>> share([True, True, False, False])
    0.5
    """
    marks = [bool(mark) for mark in present]
    return sum(marks) / len(marks) if marks else 0.0


def mentions(response: str, item: str) -> bool:
    """Whether a word (its plural counts), or all words of a phrase, are there."""
    said = set(words(response))
    return all(
        word in said or word + "s" in said or word.removesuffix("s") in said
        for word in words(item)
    )


def count_score(found: int, wanted: int) -> float:
    """1 for as many as wanted, falling to 0 as the count is off by all of them.

    >>> [count_score(n, 2) for n in (0, 1, 2, 3, 4)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    """
    return max(0.0, 1.0 - abs(found - wanted) / wanted)


def common_length(first: Sequence[str], second: Sequence[str]) -> int:
    """The length of the longest common subsequence."""
    row = [0] * (len(second) + 1)
    for item in first:
        diagonal = 0
        for column, other in enumerate(second, 1):
            diagonal, row[column] = (
                row[column],
                diagonal + 1 if item == other else max(row[column], row[column - 1]),
            )
    return row[-1]


def overlap(response: str, target: str) -> float:
    """F1 of the longest common subsequence of words, as ROUGE-L."""
    said, wanted = words(response), words(target)
    common = common_length(said[: 3 * len(wanted) + 20], wanted)
    return 2.0 * common / (len(said) + len(wanted)) if common else 0.0


def listed(items: Sequence[str], *, joiner: str = "and") -> str:
    """Items as prose: "a, b and c"."""
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} {joiner} {items[-1]}"
