"""CNN/DM and TL;DR: ROUGE-L of a summary against the written one, by rouge-score.

Mean F-measure with stemming, as Google's implementation; summaries are one line, so the
sentence-split variant (Lsum) would be the same number.
"""

import functools
import os

from rlhf_jax.errors import InputError
from rlhf_jax.evaluation.suites.files import read_rows
from rlhf_jax.evaluation.suites.prompts import summary_query
from rlhf_jax.evaluation.suites.tasks import Item, measured


def read_cnn_dm(source: str | os.PathLike) -> list[Item]:
    """CNN/DailyMail rows: `article` and `highlights`."""
    return _read(source, ("article",), ("highlights",))


def read_tldr(source: str | os.PathLike) -> list[Item]:
    """TL;DR rows: `post` (or `content`) and `summary`."""
    return _read(source, ("post", "content", "document"), ("summary",))


def _read(source: str | os.PathLike, texts, summaries) -> list[Item]:
    return [
        Item(
            str(row.fields.get("id", number)),
            summary_query(row.text(*texts).strip()),
            row.text(*summaries).strip(),
            references=(row.text(*summaries).strip(),),
        )
        for number, row in enumerate(read_rows(source))
    ]


def rouge(summary: str, reference: str, kind: str = "rougeL") -> float:
    """ROUGE F-measure, 0 to 1; `kind` is rouge1, rouge2 or rougeL.

    Source: Lin 2004; stemmed with Porter's stemmer as the released reference scores.
    """
    return _scorer(kind).score(reference, summary)[kind].fmeasure


@functools.cache
def _scorer(kind: str):
    try:
        from rouge_score import rouge_scorer
    except ImportError:
        raise InputError(
            "ROUGE needs rouge-score: pip install 'rlhf_jax[eval]'"
        ) from None
    return rouge_scorer.RougeScorer([kind], use_stemmer=True)


summary_scores = measured(
    {
        "ROUGE-L": lambda text, references: rouge(text, references[0]),
        "words": lambda text, references: float(len(text.split())),
    }
)
