"""Labelers: responses in, rankings out, whoever it is.

People rank files, so their labeler answers from one; sets without a ranking are written
to FILE.todo.jsonl, and the run says so. Simulated persons answer at once.
"""

import json
import pathlib
from collections.abc import Sequence
from typing import Protocol

from rlhf_jax.data import Prompt, Ranking
from rlhf_jax.data.readers import read
from rlhf_jax.errors import InputError
from rlhf_jax.storage import write_text

__all__ = ["FileLabeler", "GoldLabeler", "Labeler", "load_labelers", "rankings_by"]


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


class FileLabeler:
    """People's rankings from a file of `Ranking` records.

    A set of responses is found by prompt and texts, in whatever order they stand. Sets
    that the file lacks are written to `<file>.todo.jsonl`, each time anew.
    """

    def __init__(self, path: str | pathlib.Path, name: str = "people"):
        self.path, self.name = pathlib.Path(path), name
        self.todo = self.path.with_name(self.path.name + ".todo.jsonl")
        self._known: dict[tuple, list[Ranking]] = {}
        if self.path.exists():
            for row in read(self.path, "jsonl"):
                if not isinstance(row, Ranking):
                    raise InputError(f"{self.path}: {row.id} is not a ranking")
                key = _key(row.prompt, row.responses)
                self._known.setdefault(key, []).append(row)

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
        """The ranks that the last person gave.

        Raises:
          InputError: nobody has ranked these responses yet.
        """
        return self.rankings(prompt, responses)[-1].ranks

    def rankings(self, prompt: Prompt, responses: Sequence[str]) -> list[Ranking]:
        """Every person's ranking, with all its fields, in the order of `responses`.

        Args:
          prompt: its fields become those of the rows; the second row of a set has the
            id `<id>#2`, and so on.
          responses: as they were sampled.

        Raises:
          InputError: nobody has ranked these responses yet.
        """
        rows = self._known.get(_key(prompt.prompt, responses))
        if not rows:
            raise InputError(f"{self.path}: no ranking of the responses to {prompt.id}")
        return [
            _reordered(row, prompt, list(responses), number, self.name)
            for number, row in enumerate(rows, 1)
        ]


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
    if hasattr(labeler, "rankings"):
        return labeler.rankings(prompt, responses)
    ranks = list(labeler.rank(prompt, responses))
    texts = list(responses)
    return [
        Ranking(
            **prompt.model_dump(), responses=texts, ranks=ranks, labeler=labeler.name
        )
    ]


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
