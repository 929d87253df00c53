"""Labelers: responses in, ranks out, whoever it is.

People rank files, so their labeler answers from one; what it has not been asked yet is
written down for them and the run says so. Simulated persons answer at once.
"""

import json
import pathlib
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from rlhf_jax.data import Prompt, Ranking
from rlhf_jax.data.readers import read
from rlhf_jax.data.records import dense_ranks
from rlhf_jax.errors import InputError
from rlhf_jax.registry import Reward
from rlhf_jax.storage import write_text

__all__ = ["FileLabeler", "GoldLabeler", "Labeler", "RewardLabeler", "load_labelers"]


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


class FileLabeler:
    """People's rankings from a file of `Ranking` records.

    A set of responses is found by prompt and texts, in whatever order they stand. Sets
    that the file lacks are written to `<file>.todo.jsonl`, each time anew.
    """

    def __init__(self, path: str | pathlib.Path, name: str = "people"):
        self.path, self.name = pathlib.Path(path), name
        self.todo = self.path.with_name(self.path.name + ".todo.jsonl")
        self._known: dict[tuple, Ranking] = {}
        if self.path.exists():
            for row in read(self.path, "jsonl"):
                if not isinstance(row, Ranking):
                    raise InputError(f"{self.path}: {row.id} is not a ranking")
                self._known[_key(row.prompt, row.responses)] = row

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
            if _key(prompt.prompt, texts) not in self._known
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

    def rank(self, prompt: Prompt, responses: Sequence[str]) -> list[int]:
        """The ranks that people gave.

        Raises:
          InputError: nobody has ranked these responses yet.
        """
        row = self._known.get(_key(prompt.prompt, responses))
        if row is None:
            raise InputError(f"{self.path}: no ranking of the responses to {prompt.id}")
        place = dict(zip(row.responses, row.ranks, strict=True))
        return [place[text] for text in responses]


def _key(prompt: str, responses: Sequence[str]) -> tuple:
    return (prompt, tuple(sorted(responses)))


def load_labelers(name: str, *, seed: int = 0) -> list[Labeler]:
    """The labelers that a config names.

    Args:
      name: "simulated:training" or "simulated:held_out" (the embedded world's two
        groups), "simulated:gold" (its utility, without noise), or "file:PATH" (people).
      seed: of the simulated persons.

    Raises:
      InputError: none of these.
    """
    kind, _, rest = name.partition(":")
    if kind == "file" and rest:
        return [FileLabeler(rest)]
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
        "simulated:gold or file:PATH"
    )
