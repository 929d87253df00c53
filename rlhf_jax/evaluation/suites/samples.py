"""Scores outputs that exist already, such as those released with the paper.

The files have one row per output: `model_type`, `prompt_type`, `context`, `sample`, and
the references (`ref_text`, several parted by "|") or the stored judgement (`toxicity`,
or `true` and `info`). They come out as the table that a run of the model would give.

Source: the automatic-eval-samples of Ouyang et al. 2022.
Differs: a reference is compared as it is written, "Not in background." included,
because the samples hold no list of true answers beside it.
"""

import functools
import os
from collections.abc import Callable, Sequence

import numpy as np

from rlhf_jax.errors import InputError
from rlhf_jax.evaluation.statistics.scores import Score
from rlhf_jax.evaluation.suites.files import Row, read_rows
from rlhf_jax.evaluation.suites.reading import drop_em_f1, squad_em_f1
from rlhf_jax.evaluation.suites.settings import Settings, limited
from rlhf_jax.evaluation.suites.summarization import summary_scores
from rlhf_jax.evaluation.suites.tasks import (
    Item,
    Scoring,
    f1_and_match,
    measured,
)
from rlhf_jax.evaluation.suites.toxicity import TOXIC
from rlhf_jax.evaluation.suites.translation import bleu_scores
from rlhf_jax.evaluation.suites.truthfulness import truth_scores

_CONDITIONS = {
    "zeroshot": "zero-shot",
    "fewshot": "few-shot",
    "basic prompt": "basic",
    "respectful prompt": "respectful",
    "biased prompt": "biased",
    "QA prompt": "QA",
    "instruction prompt": "instruction",
}
_SIZES = ("xl", "6b", "175b")
_FAMILIES = ("gpt", "sft", "ppo-noptx", "ppo-ptx")
PAPER_ORDER = tuple(f"{family}-{size}" for family in _FAMILIES for size in _SIZES)


def score_samples(
    source: str | os.PathLike, suite: str, *, limit: int | None = None, seed: int = 0
) -> dict[str, list[Score]]:
    """policy -> scores of its outputs in a file.

    Args:
      source: .csv, .tsv or .jsonl, gzipped or not.
      suite: a key of `SAMPLE_SUITES`.
      limit: at most so many items per condition, the same ones of every policy.
      seed: of their choice.

    Returns:
      policies in the paper's order (GPT, SFT, PPO, PPO-ptx by size), others after them.

    Raises:
      InputError: unknown suite, a missing column, a number that is none; with the line.
    """
    if suite not in SAMPLE_SUITES:
        raise InputError(
            f"--suite {suite}: samples can be scored as {', '.join(SAMPLE_SUITES)}"
        )
    columns, score = SAMPLE_SUITES[suite]
    rows = read_rows(source, columns=("model_type", *columns))
    cells: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        prompt_type = str(row.fields.get("prompt_type", ""))
        condition = _CONDITIONS.get(prompt_type, prompt_type)
        cells.setdefault((row.text("model_type"), condition), []).append(row)
    found: dict[str, list[Score]] = {name: [] for name in _in_order(cells)}
    settings = Settings(limit=limit, seed=seed)
    for condition in dict.fromkeys(condition for _, condition in cells):
        some = {p: _numbered(cells.get((p, condition), []), columns[0]) for p in found}
        items = dict.fromkeys(item for rows in some.values() for item in rows)
        chosen = set(limited(list(items), settings))
        for policy in found:
            kept = [row for item, row in some[policy].items() if item in chosen]
            found[policy] += score(kept, condition) if kept else []
    return found


def _numbered(rows: Sequence[Row], column: str) -> dict[tuple[str, int], Row]:
    """Item -> its row, where an item is a text and how often it came before."""
    seen: dict[str, int] = {}
    found = {}
    for row in rows:
        text = row.text(column)
        seen[text] = seen.get(text, 0) + 1
        found[text, seen[text]] = row
    return found


def _in_order(cells) -> list[str]:
    names = list(dict.fromkeys(policy for policy, _ in cells))
    known = [name for name in PAPER_ORDER if name in names]
    return known + [name for name in names if name not in known]


def _items(rows: Sequence[Row], *, separator: str | None = "|") -> list[Item]:
    seen: dict[str, int] = {}
    items = []
    for row in rows:
        context, answer = row.text("context"), row.text("ref_text")
        count = seen[context] = seen.get(context, 0) + 1
        references = answer.split(separator) if separator else [answer]
        name = context if count == 1 else f"{context} #{count}"
        items.append(Item(name, context, answer, references=tuple(references)))
    return items


def _outputs(rows: Sequence[Row]) -> list[str]:
    return [row.text("sample", empty=True) for row in rows]


def _texts(
    task: str,
    scoring: Scoring,
    rows: Sequence[Row],
    condition: str,
    *,
    separator: str | None = "|",
) -> list[Score]:
    """Texts beside their references, scored as if they had just been written."""
    return scoring(task, _items(rows, separator=separator), _outputs(rows), condition)


def _single_spans(text: str, references: Sequence[str]) -> tuple[float, float]:
    return drop_em_f1(text, [(reference,) for reference in references])


def _drop(task, items, outputs, condition) -> list[Score]:
    as_squad = {"F1 as SQuAD counts": lambda text, refs: squad_em_f1(text, refs)[1]}
    scorings = (f1_and_match(_single_spans), measured(as_squad, scale=100.0))
    return [s for scoring in scorings for s in scoring(task, items, outputs, condition)]


def _toxicity(rows: Sequence[Row], condition: str) -> list[Score]:
    values = np.array([row.number("toxicity") for row in rows])
    for row, value in zip(rows, values, strict=True):
        if not 0 <= value <= 1:
            raise row.wrong("toxicity", f"expected 0 to 1, found {value}")
    options = {
        "condition": condition,
        "items": [row.text("context") for row in rows],
        "higher_is_better": False,
        "outputs": _outputs(rows),
    }
    return [
        Score("toxicity", "toxicity", values, **options),
        Score("toxicity", "toxic share", (values >= TOXIC).astype(float), **options),
    ]


def _truthfulness(rows: Sequence[Row], condition: str) -> list[Score]:
    return truth_scores(
        np.array([row.number("true") for row in rows]),
        np.array([row.number("info") for row in rows]),
        names=[row.text("question") for row in rows],
        condition=condition,
        outputs=[row.text("answer", empty=True) for row in rows],
    )


_Scorer = Callable[[Sequence[Row], str], list[Score]]
_TEXTS = ("context", "ref_text", "sample")
# references of these are one text, whatever is in it
_whole = functools.partial(functools.partial, _texts, separator=None)
SAMPLE_SUITES: dict[str, tuple[tuple[str, ...], _Scorer]] = {
    "squad": (_TEXTS, functools.partial(_texts, "squad", f1_and_match(squad_em_f1))),
    "drop": (_TEXTS, functools.partial(_texts, "drop", _drop)),
    "wmt": (_TEXTS, _whole("wmt", bleu_scores)),
    "tldr": (_TEXTS, _whole("tldr", summary_scores)),
    "cnn_dm": (_TEXTS, _whole("cnn_dm", summary_scores)),
    "toxicity": (("context", "sample", "toxicity"), _toxicity),
    "truthfulqa": (("question", "answer", "true", "info"), _truthfulness),
}
