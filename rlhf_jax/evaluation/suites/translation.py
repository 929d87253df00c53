"""WMT15 French to English: corpus BLEU by sacrebleu.

BLEU is not a mean over sentences but a function of sums over them (matched and possible
n-grams, lengths), so those sums are what is kept per sentence and resampled.
"""

import os
import pathlib
import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from rlhf_jax.errors import InputError
from rlhf_jax.evaluation.statistics.scores import Score
from rlhf_jax.evaluation.suites.files import Row, find_file, read_rows, read_text
from rlhf_jax.evaluation.suites.prompts import french_query
from rlhf_jax.evaluation.suites.tasks import Item

_ORDER = 4  # n-grams up to this


def read_wmt(source: str | os.PathLike) -> list[Item]:
    """Sentence pairs.

    Args:
      source: .jsonl with `translation: {"fr", "en"}` or `fr` and `en`, .tsv with `fr`
        and `en`, a hub name, or a folder with two files of equal length whose names
        end in .fr and .en (plain lines) or in .fr.sgm and .en.sgm (WMT's own).

    Raises:
      InputError: with the place.
    """
    folder = pathlib.Path(str(source))
    if folder.is_dir():
        french, english = _lines_of(folder, "fr"), _lines_of(folder, "en")
        if len(french) != len(english):
            raise InputError(
                f"{folder}: {len(french)} French lines, {len(english)} English ones"
            )
        pairs = list(zip(french, english, strict=True))
    else:
        pairs = []
        for row in read_rows(source):
            fields = row.fields.get("translation", row.fields)
            if not isinstance(fields, dict):
                raise row.wrong("translation", "expected an object with fr and en")
            pair = Row(fields, row.place)
            pairs.append((pair.text("fr"), pair.text("en")))
    return [
        Item(str(n), french_query(fr), en, references=(en,))
        for n, (fr, en) in enumerate(pairs)
    ]


def _lines_of(folder: pathlib.Path, language: str) -> list[str]:
    names = sorted(
        p.name for p in folder.iterdir() if p.name.endswith((f".{language}",))
    ) or sorted(p.name for p in folder.iterdir() if f".{language}." in p.name)
    text = read_text(find_file(folder, names or [f"*.{language}"]))
    if "<seg" in text:
        return [s.strip() for s in re.findall(r"<seg[^>]*>(.*?)</seg>", text, re.S)]
    return text.rstrip("\n").split("\n")


def bleu_sums(hypothesis: str, reference: str) -> Float[np.ndarray, "10"]:
    """What one sentence adds to corpus BLEU.

    Returns:
      [10]: matched 1..4-grams, possible 1..4-grams, hypothesis and reference length.
    """
    metric = _sacrebleu().BLEU(effective_order=True)
    found = metric.sentence_score(hypothesis, [reference])
    return np.array([*found.counts, *found.totals, found.sys_len, found.ref_len], float)


def bleu_of_sums(sums: Float[np.ndarray, "... 10"]) -> Float[np.ndarray, "..."]:
    """Corpus BLEU, 0 to 100, of summed sentence statistics.

    BLEU = 100·min(1, e^{1-r/h})·exp(¼ Σₙ log pₙ); the k-th n-gram order without any
    match counts as 1 / (2ᵏ · possible) (sacrebleu's default, "exp" smoothing).

    Source: Papineni et al. 2002; Post 2018.
    """
    matched, possible = sums[..., :_ORDER], sums[..., _ORDER : 2 * _ORDER]
    length, reference = sums[..., -2], sums[..., -1]
    missing = (matched == 0) & (possible > 0)
    halvings = 0.5 ** np.cumsum(missing, axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(missing, halvings, matched) / possible
        mean = np.exp(np.log(precision).mean(-1))
        brevity = np.where(length < reference, np.exp(1 - reference / length), 1.0)
    whole = (possible > 0).all(-1) & (matched.sum(-1) > 0) & (length > 0)
    return np.where(whole, 100 * np.nan_to_num(brevity) * np.nan_to_num(mean), 0.0)


def bleu_scores(
    task: str, items: Sequence[Item], outputs: Sequence[str], condition: str
) -> list[Score]:
    """Corpus BLEU of translations against one reference each."""
    pairs = zip(outputs, (item.references[0] for item in items), strict=True)
    return [
        Score(
            task,
            "BLEU",
            np.array([bleu_sums(*pair) for pair in pairs]).reshape(-1, 10),
            condition,
            items=[item.name for item in items],
            statistic=bleu_of_sums,
            outputs=outputs,
        )
    ]


def _sacrebleu():
    try:
        from sacrebleu import metrics
    except ImportError:
        raise InputError("BLEU needs sacrebleu: pip install 'rlhf_jax[eval]'") from None
    return metrics
