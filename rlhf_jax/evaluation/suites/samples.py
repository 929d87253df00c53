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
from rlhf_jax.evaluation.suites.tasks import Item, generated_scores
from rlhf_jax.evaluation.suites.toxicity import TOXIC
from rlhf_jax.evaluation.suites.translation import bleu_score
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


def _squad(rows: Sequence[Row], condition: str) -> list[Score]:
    measures = {
        "F1": lambda text, references: squad_em_f1(text, references)[1],
        "exact match": lambda text, references: squad_em_f1(text, references)[0],
    }
    return generated_scores(
        "squad",
        _items(rows),
        _outputs(rows),
        measures,
        condition=condition,
        scale=100.0,
    )


def _drop(rows: Sequence[Row], condition: str) -> list[Score]:
    measures = {
        "F1": lambda text, refs: drop_em_f1(text, [(r,) for r in refs])[1],
        "exact match": lambda text, refs: drop_em_f1(text, [(r,) for r in refs])[0],
        "F1 as SQuAD counts": lambda text, refs: squad_em_f1(text, refs)[1],
    }
    return generated_scores(
        "drop",
        _items(rows),
        _outputs(rows),
        measures,
        condition=condition,
        scale=100.0,
    )


def _translation(rows: Sequence[Row], condition: str) -> list[Score]:
    items = _items(rows, separator=None)
    return [bleu_score("wmt", _outputs(rows), items, condition=condition)]


def _summaries(rows: Sequence[Row], condition: str, task: str = "tldr") -> list[Score]:
    items = _items(rows, separator=None)
    return summary_scores(task, items, _outputs(rows), condition=condition)


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
SAMPLE_SUITES: dict[str, tuple[tuple[str, ...], _Scorer]] = {
    "squad": (("context", "ref_text", "sample"), _squad),
    "drop": (("context", "ref_text", "sample"), _drop),
    "wmt": (("context", "ref_text", "sample"), _translation),
    "tldr": (("context", "ref_text", "sample"), _summaries),
    "cnn_dm": (
        ("context", "ref_text", "sample"),
        functools.partial(_summaries, task="cnn_dm"),
    ),
    "toxicity": (("context", "sample", "toxicity"), _toxicity),
    "truthfulqa": (("question", "answer", "true", "info"), _truthfulness),
}
