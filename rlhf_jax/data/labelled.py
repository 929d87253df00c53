"""Labelled sentences, such as SST-2's, as they are and as rankings.

A human label stands in for a human comparison: of two texts, the one with the greater
label is preferred (Ziegler et al. 2019 asked people which continuation was more
positive; Stiennon et al. 2020 and the reward-model literature start from such labels).
"""

import pathlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rlhf_jax.data.readers.tables import csv_rows, tsv_rows
from rlhf_jax.data.records import Prompt, Ranking, dense_ranks
from rlhf_jax.data.rows import Intake, RowError
from rlhf_jax.errors import InputError

# how tokenised text is written again: what loses the space before it, and after it
_JOINED = re.compile(r" (n't|'s|'re|'ve|'ll|'d|'m|[.,;:!?])(?=\s|$)", re.IGNORECASE)
_BRACKETS = {"-lrb-": "(", "-rrb-": ")", "``": '"', "''": '"'}


@dataclass(frozen=True)
class Labelled:
    """A sentence and its label, greater is better."""

    text: str
    label: int


def labelled_sentences(
    path: str | pathlib.Path, *, min_words: int = 1, intake: Intake | None = None
) -> list[Labelled]:
    """The rows of a table with the columns `sentence` and `label`.

    Args:
      path: .tsv or .csv, plain or gzip.
      min_words: shorter sentences are left out, and counted.
      intake: what becomes of bad rows; refuses them when None.

    Raises:
      InputError: bad rows, by line, or another kind of table.
    """
    intake = Intake() if intake is None else intake
    rows = csv_rows if ".csv" in pathlib.PurePath(path).suffixes else tsv_rows
    found = []
    for row in rows(path, intake):
        label = row.value.get("label", "")
        if "sentence" not in row.value or not label.strip().isdigit():
            why = f"expected a sentence and a whole number, got {label!r}"
            intake.reject(row, RowError("label", why))
        elif len(row.value["sentence"].split()) < min_words:
            intake.leave(row, f"shorter than {min_words} words")
        else:
            found.append(Labelled(row.value["sentence"].strip(), int(label)))
    intake.settle()
    intake.records += len(found)
    return found


def written(sentence: str) -> str:
    """A tokenised sentence as a person would write it: spaces, capital, full stop.

    >>> written("it 's a charming and often affecting journey .")
    "It's a charming and often affecting journey."
    """
    words = [_BRACKETS.get(word, word) for word in sentence.split()]
    text = _JOINED.sub(r"\1", " ".join(words))
    text = text[:1].upper() + text[1:]
    return text if text[-1:] in ".!?" else f"{text.rstrip(',;: ')}."


def labelled_rankings(
    sentences: Sequence[Labelled],
    prompts: Sequence[Prompt],
    *,
    count: int,
    responses: int = 4,
    min_words: int = 6,
    max_words: int = 40,
    seed: int = 0,
) -> Iterator[Ranking]:
    """Rankings whose responses are sentences of one label each, after real prompts.

    A response is as many sentences of its label, written out, as make up a length
    drawn between `min_words` and `max_words`; so the reward model meets the lengths
    that a policy will write, and its prompts, while the judgement stays human. The
    prompt tells nothing about the label. At least two labels stand in every ranking.

    Args:
      sentences: with at least two different labels.
      prompts: of the domain; drawn at random.
      count: rankings to make.
      responses: K.
      min_words, max_words: least length of a response, in words.
      seed: of everything drawn.

    Raises:
      InputError: only one label, or no prompt.
    """
    pools: dict[int, list[str]] = {}
    for sentence in sentences:
        pools.setdefault(sentence.label, []).append(written(sentence.text))
    if len(pools) < 2 or not prompts or responses < 2:
        raise InputError(
            f"labelled rankings: expected two labels, a prompt and two responses, got "
            f"{len(pools)}, {len(prompts)} and {responses}"
        )
    names = sorted(pools)
    rng = np.random.default_rng([seed, len(prompts)])
    for number in range(count):
        labels = rng.permutation(
            [*rng.permutation(names)[:2], *rng.choice(names, responses - 2)]
        ).tolist()
        lengths = rng.integers(min_words, max_words + 1, responses).tolist()
        texts = [
            _several(pools[label], length, rng)
            for label, length in zip(labels, lengths, strict=True)
        ]
        yield Ranking(
            id=f"labelled/{number}",
            prompt=prompts[int(rng.integers(len(prompts)))].prompt,
            responses=texts,
            ranks=dense_ranks([-label for label in labels]),
            source="labelled sentences",
        )


def _several(pool: Sequence[str], words: int, rng: np.random.Generator) -> str:
    """Sentences of a pool, one after the other, until there are so many words."""
    chosen: list[str] = []
    while sum(len(text.split()) for text in chosen) < words:
        chosen.append(pool[int(rng.integers(len(pool)))])
    return " ".join(chosen)
