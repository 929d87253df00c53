"""Labelers: responses in, rankings out, whoever it is.

People take days, so who stands for them first says whether they have answered
(`require`) and then gives every person's ranking (`rankings`): from a file, where sets
without a ranking are written to FILE.todo.jsonl, or from the labelling server.
Simulated persons answer at once.
"""

import dataclasses
import importlib
import json
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np

from rlhf_jax.data import Prompt, Ranking
from rlhf_jax.data.readers import read
from rlhf_jax.data.records import dense_ranks
from rlhf_jax.errors import InputError
from rlhf_jax.registry import Reward
from rlhf_jax.storage import write_text

__all__ = [
    "Asked",
    "FileLabeler",
    "GoldLabeler",
    "Labeler",
    "People",
    "RewardLabeler",
    "load_labelers",
    "rankings_by",
    "rankings_of",
]

# kinds of labelers that a room further down provides; imported when a config names one
PROVIDED = {"label": "rlhf_jax.labelling.exchange:open_labelers"}


class Labeler(Protocol):
    """Anybody who can order responses.

    Attributes:
      name: a pseudonym; stored with every ranking.
    """

    name: str

    def rank(self, prompt: Prompt, responses: Sequence[str]) -> list[int]:
        """Ranks of the responses: 1 is best, equal numbers are ties."""
        ...


class GoldLabeler:
    """Ranks by the embedded world's gold utility, without noise (Gao et al. 2022)."""

    name = "gold"

    def rank(self, prompt: Prompt, responses: Sequence[str]) -> list[int]:
        """Ranks by utility; equal utilities tie."""
        from rlhf_jax.simulation import utility

        totals = [utility(prompt, text).total for text in responses]
        order = sorted(set(totals), reverse=True)
        return [1 + order.index(total) for total in totals]


class RewardLabeler:
    """A reward, a model or a function, in the labelers' place; equal scores tie."""

    def __init__(self, reward: Reward):
        self.reward, self.name = reward, f"reward:{reward.name}"

    def rank(self, prompt: Prompt, responses: Sequence[str]) -> list[int]:
        """Ranks by score."""
        return self.rank_all([prompt], [responses])[0]

    def rank_all(
        self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]
    ) -> list[list[int]]:
        """Ranks of many sets, all scored together.

        Raises:
          InputError: a response gets no score.
        """
        pairs = [
            (prompt, text)
            for prompt, texts in zip(prompts, responses, strict=True)
            for text in texts
        ]
        scores = self.reward.score(
            [prompt.prompt for prompt, _ in pairs],
            [text for _, text in pairs],
            [prompt.model_dump() for prompt, _ in pairs],
        )
        if (missing := np.flatnonzero(np.isnan(scores))).size:
            raise InputError(
                f"{self.name}: no score for {missing.size} of {len(pairs)} responses, "
                f"the first to the prompt {pairs[missing[0]][0].id}: expected a number "
                "for each"
            )
        ends = np.cumsum([len(texts) for texts in responses])[:-1]
        return [dense_ranks((-part).tolist()) for part in np.split(scores, ends)]


@dataclasses.dataclass(frozen=True)
class Asked:
    """What is asked of people before a run goes on.

    Attributes:
      overlap: persons who rank each set.
      quorum: share of the sets that must have all their rankings.
      deadline_hours: after so long what there is must do; None: never.
    """

    overlap: int = 1
    quorum: float = 1.0
    deadline_hours: float | None = None


class People:
    """Rankings that people gave, found by prompt and texts in whatever order.

    Attributes:
      name: of whoever does not tell theirs.
      where: they come from, for messages.
    """

    def __init__(self, where: str, name: str = "people"):
        self.where, self.name = where, name
        self._known: dict[tuple, list[Ranking]] = {}

    def add(self, rows: Iterable[Ranking]) -> None:
        """Takes rankings in."""
        for row in rows:
            self._known.setdefault(_key(row.prompt, row.responses), []).append(row)

    def knows(self, prompt: Prompt, responses: Sequence[str]) -> bool:
        """Whether anybody has ranked these responses."""
        return _key(prompt.prompt, responses) in self._known

    def require(
        self,
        prompts: Sequence[Prompt],
        responses: Sequence[Sequence[str]],
        asked: Asked,
    ) -> None:
        """Stops where people have not ranked enough yet.

        Raises:
          InputError: says how many sets wait, and where.
        """
        raise NotImplementedError

    def rank(self, prompt: Prompt, responses: Sequence[str]) -> list[int]:
        """The ranks that the last person gave.

        Raises:
          InputError: nobody has ranked these responses yet.
        """
        rows = self.rankings(prompt, responses)
        if not rows:
            raise InputError(
                f"{self.where}: no ranking of the responses to {prompt.id}"
            )
        return rows[-1].ranks

    def rankings(self, prompt: Prompt, responses: Sequence[str]) -> list[Ranking]:
        """Every person's ranking, with all its fields, in the order of `responses`.

        Args:
          prompt: its fields become those of the rows; the second row of a set has the
            id `<id>#2`, and so on.
          responses: as they were sampled.
        """
        rows = self._known.get(_key(prompt.prompt, responses), [])
        return [
            _reordered(row, prompt, list(responses), number, self.name)
            for number, row in enumerate(rows, 1)
        ]


class FileLabeler(People):
    """People's rankings from a file of `Ranking` records.

    Sets that the file lacks are written to `<file>.todo.jsonl`, each time anew. How
    many persons rank a set is up to whoever fills the file.
    """

    def __init__(self, path: str | pathlib.Path, name: str = "people"):
        super().__init__(str(path), name)
        self.path = pathlib.Path(path)
        self.todo = self.path.with_name(self.path.name + ".todo.jsonl")
        if self.path.exists():
            for row in read(self.path, "jsonl"):
                if not isinstance(row, Ranking):
                    raise InputError(f"{self.path}: {row.id} is not a ranking")
                self.add([row])

    def require(
        self,
        prompts: Sequence[Prompt],
        responses: Sequence[Sequence[str]],
        asked: Asked,
    ) -> None:
        """Stops, with a to-do file, where a set has no ranking.

        Raises:
          InputError: says how many sets wait, and in which file.
        """
        del asked
        if count := self.missing(prompts, responses):
            raise InputError(
                f"{count} sets of responses wait for people in {self.todo}: rank "
                f"them into {self.path} (add ranks, 1 is best) and run again"
            )

    def missing(
        self, prompts: Sequence[Prompt], responses: Sequence[Sequence[str]]
    ) -> int:
        """How many sets nobody has ranked; they are written to the to-do file.

        Raises:
          InputError: somebody wrote ranks into the to-do file; they would be lost.
        """
        rows = [
            (prompt, list(texts))
            for prompt, texts in zip(prompts, responses, strict=True)
            if not self.knows(prompt, texts)
        ]
        if rows:
            lines = [
                {"id": p.id, "prompt": p.prompt, "responses": texts}
                for p, texts in rows
            ]
            text = "".join(
                json.dumps(line, ensure_ascii=False) + "\n" for line in lines
            )
            self._require_no_ranks()
            self.todo.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.todo, text)
        return len(rows)

    def _require_no_ranks(self) -> None:
        if not self.todo.exists():
            return
        lines = self.todo.read_text(encoding="utf-8").split("\n")
        for number, line in enumerate(lines, 1):
            if '"ranks"' in line:
                raise InputError(
                    f"{self.todo}:{number}: has ranks; move ranked lines into "
                    f"{self.path}, this file is written anew"
                )


def _reordered(
    row: Ranking, prompt: Prompt, responses: list[str], number: int, name: str
) -> Ranking:
    """A person's ranking with its responses in another order."""
    places: dict[str, list[int]] = {}
    for place, text in enumerate(row.responses):
        places.setdefault(text, []).append(place)
    order = [places[text].pop(0) for text in responses]

    def moved(values: list | None) -> list | None:
        return None if values is None else [values[place] for place in order]

    fields = prompt.model_dump() | {
        "id": prompt.id if number == 1 else f"{prompt.id}#{number}",
        "group": prompt.group if number == 1 else prompt.split_key,
        "meta": {**prompt.meta, **row.meta},
    }
    shown = row.shown_order
    return Ranking(
        **fields,
        responses=responses,
        ranks=moved(row.ranks),
        likert=moved(row.likert),
        flags=moved(row.flags),
        shown_order=None if shown is None else [order.index(slot) for slot in shown],
        labeler=row.labeler or name,
        seconds=row.seconds,
        guideline=row.guideline,
    )


def rankings_by(
    labeler: Labeler, prompt: Prompt, responses: Sequence[str]
) -> list[Ranking]:
    """What a labeler says of a set: every person's ranking, or the one of a program."""
    if isinstance(labeler, People):
        return labeler.rankings(prompt, responses)
    ranks = labeler.rank(prompt, responses)
    return [_ranked(prompt, responses, ranks, labeler.name)]


def rankings_of(
    labelers: Sequence[Labeler],
    prompts: Sequence[Prompt],
    responses: Sequence[Sequence[str]],
) -> list[Ranking]:
    """The rankings of many sets, each by its labeler; a reward scores all at once.

    Args:
      labelers: of each set.
      prompts: of each set.
      responses: of each set.

    Raises:
      InputError: somebody has not ranked, or a reward gives no score.
    """
    sets = list(zip(labelers, prompts, responses, strict=True))
    if len(set(map(id, labelers))) == 1 and isinstance(labelers[0], RewardLabeler):
        return [
            _ranked(prompt, texts, ranks, labelers[0].name)
            for (_, prompt, texts), ranks in zip(
                sets, labelers[0].rank_all(prompts, responses), strict=True
            )
        ]
    return [row for asked in sets for row in rankings_by(*asked)]


def _ranked(
    prompt: Prompt, responses: Sequence[str], ranks: Sequence[int], labeler: str
) -> Ranking:
    return Ranking(
        **prompt.model_dump(),
        responses=list(responses),
        ranks=list(ranks),
        labeler=labeler,
    )


def _key(prompt: str, responses: Sequence[str]) -> tuple:
    return (prompt, tuple(sorted(responses)))


def _provided(kind: str) -> Callable[[str], list[Labeler]]:
    module, _, function = PROVIDED[kind].partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except ImportError as error:
        raise InputError(
            f"labelers {kind}: {error.name} is not installed: "
            "pip install 'rlhf_jax[labelling]'"
        ) from error


def load_labelers(name: str, *, seed: int = 0) -> list[Labeler]:
    """The labelers that a config names.

    Args:
      name: "simulated:training" or "simulated:held_out" (the embedded world's two
        groups), "simulated:gold" (its utility, without noise), "file:PATH" (people's
        file), or "label:STUDY" (people at the labelling server: a directory, a
        database or the server's address).
      seed: of the simulated persons.

    Raises:
      InputError: none of these.
    """
    kind, _, rest = name.partition(":")
    if kind == "file" and rest:
        return [FileLabeler(rest)]
    if kind in PROVIDED and rest:
        return _provided(kind)(rest)
    if kind == "simulated":
        from rlhf_jax import simulation

        groups = {
            "training": lambda: simulation.training_labelers(seed),
            "held_out": lambda: simulation.held_out_labelers(seed),
            "gold": lambda: [GoldLabeler()],
        }
        if rest in groups:
            return list(groups[rest]())
    raise InputError(
        f"labelers {name!r}: expected simulated:training, simulated:held_out, "
        "simulated:gold, file:PATH or label:STUDY"
    )
