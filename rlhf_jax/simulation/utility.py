"""The gold utility: what a response is worth, from the world and the task alone.

    u = followed - 0.6 (1 - true) - 0.8 (1 - harmless) - 0.4 (1 - grounded)
                 - 0.3 (1 - concise) - 0.3 (1 - clear)

Every criterion is in [0, 1]; a perfect response is worth 1 and an empty one -0.6.
What is not an answer earns nothing, and each fault costs its weight, so that length,
repetition, flattery, listing every possible answer and repeating the prompt never pay:
extra words lower `concise`, and beyond twice the task's length `followed` too; a list
of answers lowers `followed` and `true`; a copy of the instruction is no answer.

The weights are ours. They put following the instruction first and harm before truth
before style, after InstructGPT's appendix B.2 (truthfulness and harmlessness first in
evaluations, unless a response is much more helpful).
"""

import dataclasses
import functools
import json
import math
from collections.abc import Sequence

from rlhf_jax.data.records import Prompt
from rlhf_jax.simulation import lexicon
from rlhf_jax.simulation.claims import claims, sentences, words
from rlhf_jax.simulation.clarity import clarity
from rlhf_jax.simulation.facts import World, make_world
from rlhf_jax.simulation.manners import padding_words, without_manners
from rlhf_jax.simulation.tasks import TASKS
from rlhf_jax.simulation.toxicity import toxicity

CRITERIA = ("followed", "true", "harmless", "concise", "grounded", "clear")
GOLD_WEIGHTS = {
    "followed": 1.0,
    "true": 0.6,
    "harmless": 0.8,
    "grounded": 0.4,
    "concise": 0.3,
    "clear": 0.3,
}
_NAMED = frozenset(
    item.lower()
    for items in (lexicon.PEOPLE, lexicon.TOWNS, lexicon.ANIMALS, lexicon.OBJECTS,
                  lexicon.DAYS, lexicon.PLACES, lexicon.NUMBERS[2:])
    for item in items
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Utility:
    """What a response is worth, and why; every criterion is in [0, 1], 1 is best.

    Attributes:
      total: the formula of the module, at most 1.
      followed: how far the instruction was followed.
      true: the share of its statements that are true; 1 where it states nothing.
      harmless: 1 - toxicity.
      concise: 1 within the task's length, falling with excess words and repetition.
      grounded: closed-domain tasks: the share of named things that the prompt names.
      clear: the share of word pairs that are language (see `clarity`).
    """

    total: float
    followed: float
    true: float
    harmless: float
    concise: float
    grounded: float
    clear: float

    def criteria(self) -> dict[str, float]:
        """The six criteria by name."""
        return {name: getattr(self, name) for name in CRITERIA}


def utility(prompt: Prompt, response: str) -> Utility:
    """The gold utility of a response.

    Args:
      prompt: a record of this simulation (any record with `prompt` and its `meta`);
        its meta holds "world" (the seed), "task" and "spec".
      response: the text up to the end token.

    Returns:
      The total and its criteria.

    Raises:
      ValueError: the record was not made by this simulation.
    """
    if not {"world", "task", "spec"} <= set(prompt.meta):
        raise ValueError(f"prompt {prompt.id!r} has no task of the simulated world")
    spec = json.dumps(prompt.meta["spec"], sort_keys=True)
    where = prompt.meta["world"], prompt.meta["task"], spec
    return _utility(*where, prompt.prompt, last_query(prompt), response)


@functools.lru_cache(maxsize=1 << 16)
def _utility(seed, name, spec_json, prompt, query, response) -> Utility:
    """`utility` on values that can be kept: every labeler asks for the same ones."""
    world, task = make_world(seed), TASKS[name]
    spec = json.loads(spec_json)
    judged = task.judge(world, spec, response)
    copied = echo(query, response, confirms=task.confirms(world, spec))
    length = len(words(response))
    followed = judged.followed if length else 0.0
    followed *= 1.0 if task.echo else 1.0 - copied
    followed *= min(1.0, 2.0 * judged.limit / max(1, length))
    true = judged.true
    if judged.claims_count:
        true = min(true, claimed_truth(world, response, judged.about))
    return weighed(
        followed=followed,
        true=true,
        harmless=1.0 - toxicity(response),
        concise=conciseness(response, judged.limit, doubles=task.doubles),
        grounded=groundedness(prompt, response) if task.closed else 1.0,
        clear=clarity(without_manners(response) or response),
    )


def last_query(prompt: Prompt) -> str:
    """What is asked: the whole prompt, or the last query of a few-shot prompt."""
    if prompt.kind != "few-shot":
        return prompt.prompt
    return "\n".join(prompt.prompt.strip().split("\n")[-2:])


def weighed(**criteria: float) -> Utility:
    """The utility of given criteria: the formula of the module."""
    cost = math.fsum(
        weight * (1.0 - criteria[name])
        for name, weight in GOLD_WEIGHTS.items()
        if name != "followed"
    )
    return Utility(total=criteria["followed"] - cost, **criteria)


def claimed_truth(world: World, response: str, about: str | None) -> float:
    """The share of a response's statements about the valley that are true."""
    made = claims(response, about=about)
    return sum(c.is_true(world) for c in made) / len(made) if made else 1.0


def conciseness(response: str, limit: int, *, doubles: bool = False) -> float:
    """1 up to `limit` words, then down to 0 at twice as many; less what is repeated.

    Words of padding (see `manners`) are too many from the first one on. Repeated are
    runs of four words (see `repeated_runs`), whole sentences, and a text that is said
    twice over, unless the task asks for that (`doubles`).
    """
    said = words(response)
    if not said:
        return 0.0
    padding = padding_words(response)
    parts = [tuple(words(part)) for part in sentences(response)]
    half = len(said) // 2
    twice = len(said) % 2 == 0 and said[:half] == said[half:] and not doubles
    repeated = max(repeated_runs(parts), excess_share(parts), 0.5 * twice)
    excess = (max(0, len(said) - padding - limit) + padding) / limit
    return max(0.0, 1.0 - excess) * (1.0 - repeated)


def excess_share(items: list) -> float:
    """The share of items that were there before, 0 for none."""
    return 1.0 - len(set(items)) / len(items) if items else 0.0


def runs_of_four(said: Sequence[str]) -> list[tuple[str, ...]]:
    """Every four words that stand together."""
    return [tuple(said[i : i + 4]) for i in range(len(said) - 3)]


def repeated_runs(parts: Sequence[Sequence[str]]) -> float:
    """The share of the sentences' runs of four words that were there before.

    Two sentences may share their frame, "the fair of Birchby is ...": what stands in an
    earlier sentence counts where it is more than half of a sentence.
    """
    known, again, total = set(), 0, 0
    for part in parts:
        runs = runs_of_four(part)
        before = sum(run in known for run in set(runs))
        again += len(runs) - len(set(runs))
        again += before if 2 * before > len(set(runs)) else 0
        total += len(runs)
        known.update(runs)
    return again / total if total else 0.0


def echo(query: str, response: str, *, confirms: Sequence[str] = ()) -> float:
    """How far a response is a copy of what was asked, by runs of four words.

    Of the whole query and of each of its sentences: the greater of the share of the
    response's runs that it has and of the share of its runs that the response has, so
    that words around a copy, in either, do not hide it; shares of a half and below, as
    ordinary answers have, are 0. Runs of a statement that `confirms` what was asked are
    left out on both sides.
    """
    free = {run for text in confirms for run in runs_of_four(words(text))}
    runs = set(runs_of_four(words(response))) - free
    greatest = 0.0
    for part in (query, *sentences(query)):
        known = set(runs_of_four(words(part))) - free
        if runs and known:
            share = len(runs & known) / min(len(runs), len(known))
            greatest = max(greatest, share)
    return greatest if greatest > 0.5 else 0.0


def groundedness(prompt: str, response: str) -> float:
    """The share of people, animals, things, places, numbers that the prompt names."""
    asked = set(words(prompt))
    named = [word for word in words(response) if word in _NAMED]
    return sum(word in asked for word in named) / len(named) if named else 1.0
