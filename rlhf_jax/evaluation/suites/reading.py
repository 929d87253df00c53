"""F1 of answers, as the official scripts of SQuAD 2.0, DROP and QuAC count it.

The three agree on lower case, no punctuation and no articles, and on F1 over bags of
words; they differ in numbers, in several spans and in what "no answer" earns.
"""

import collections
import itertools
import re
import string
from collections.abc import Sequence

import numpy as np

NO_ANSWER = "CANNOTANSWER"  # QuAC's own word for it
_PUNCTUATION = frozenset(string.punctuation)


def normal_text(text: str) -> str:
    """Lower case, without punctuation, articles and extra spaces.

    >>> normal_text("The  Bank-of America, Tower!")
    'bankof america tower'
    """
    text = "".join(c for c in text.lower() if c not in _PUNCTUATION)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def word_f1(prediction: str, reference: str) -> float:
    """F1 = 2PR / (P + R) over the bags of normal words; 1 if both are empty.

    >>> word_f1("the tallest building", "tallest building in Jacksonville")
    0.6666666666666666
    """
    ours, theirs = normal_text(prediction).split(), normal_text(reference).split()
    if not ours or not theirs:
        return float(ours == theirs)
    shared = sum((collections.Counter(ours) & collections.Counter(theirs)).values())
    if shared == 0:
        return 0.0
    precision, recall = shared / len(ours), shared / len(theirs)
    return 2 * precision * recall / (precision + recall)


def squad_em_f1(prediction: str, references: Sequence[str]) -> tuple[float, float]:
    """(exact match, F1), each the best over the references.

    Args:
      prediction: "" where the model says that there is no answer.
      references: empty where there is none.

    Source: the SQuAD 2.0 evaluation script (Rajpurkar et al. 2018).
    """
    references = [r for r in references if normal_text(r)] or [""]
    exact = max(float(normal_text(prediction) == normal_text(r)) for r in references)
    return exact, max(word_f1(prediction, r) for r in references)


def quac_f1(prediction: str, references: Sequence[str]) -> float:
    """F1 against several annotators, each left out in turn, as people are scored.

    "No answer" (`NO_ANSWER`) is right or wrong, never partly right; where most
    annotators gave none it is the only reference.

    Source: the QuAC evaluation script (Choi et al. 2018).
    """
    references = _quac_references(references)
    return _left_out_f1([prediction] * len(references), references)


def quac_human_f1(references: Sequence[str]) -> float:
    """How well the annotators agree: F1 of each against the others, averaged.

    Questions below 0.4 are left out by the official script.
    """
    references = _quac_references(references)
    return _left_out_f1(references, references)


def _left_out_f1(predictions: Sequence[str], references: list[str]) -> float:
    """Mean over i of prediction i's best F1 without reference i, if others are left."""
    found = [
        _quac_best(text, [*references[:i], *references[i + 1 :]] or references)
        for i, text in enumerate(predictions)
    ]
    return float(np.mean(found))


def _quac_references(references: Sequence[str]) -> list[str]:
    silent = sum(r == NO_ANSWER for r in references)
    if silent >= len(references) / 2:
        return [NO_ANSWER]
    return [r for r in references if r != NO_ANSWER]


def _quac_best(prediction: str, references: Sequence[str]) -> float:
    def one(reference: str) -> float:
        if NO_ANSWER in (prediction, reference):
            return float(prediction == reference)
        return word_f1(prediction, reference)

    return max(map(one, references))


def drop_em_f1(
    prediction: str | Sequence[str], references: Sequence[Sequence[str]]
) -> tuple[float, float]:
    """(exact match, F1) of a possibly many-span answer, the best over the references.

    Spans are paired to maximise the summed F1; a pair whose reference holds numbers
    that the prediction lacks counts 0; numbers are compared by value (7.0 = 7).

    Args:
      prediction: one text, or the spans.
      references: each a sequence of spans.

    Source: the DROP evaluation script (Dua et al. 2019).
    """
    best = (0.0, 0.0)
    ours = _drop_spans(prediction)
    for reference in references:
        if not "".join(reference).strip():
            continue
        theirs = _drop_spans(reference)
        same = sorted(set(ours)) == sorted(set(theirs)) and len(ours) == len(theirs)
        f1 = round(_aligned_f1(ours, theirs), 2)
        best = max(best, (float(same), f1))
    return best


def _drop_spans(answer: str | Sequence[str]) -> list[str]:
    spans = [answer] if isinstance(answer, str) else list(answer)
    return [" ".join(drop_words(span)) for span in spans]


def drop_words(text: str) -> list[str]:
    """The words of a span as DROP's script compares them."""
    words = []
    for word in re.split(r"[ -]", text.lower()):
        if not _is_number(word):
            word = "".join(c for c in word if c not in _PUNCTUATION)
        if _is_number(word):
            word = str(float(word))
        words += re.sub(r"\b(a|an|the)\b", " ", word).split()
    return words


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _aligned_f1(ours: Sequence[str], theirs: Sequence[str]) -> float:
    from scipy import optimize

    table = np.zeros((len(theirs), len(ours)))
    for (i, theirs_i), (j, ours_j) in itertools.product(
        enumerate(theirs), enumerate(ours)
    ):
        table[i, j] = _bag_f1(set(ours_j.split()), set(theirs_i.split()))
    rows, columns = optimize.linear_sum_assignment(-table)
    return table[rows, columns].sum() / max(len(ours), len(theirs))


def _bag_f1(ours: set[str], theirs: set[str]) -> float:
    numbers = {word for word in theirs if _is_number(word)}
    if numbers and not numbers & ours:
        return 0.0
    shared = len(ours & theirs)
    precision = shared / len(ours) if ours else 1.0
    recall = shared / len(theirs) if theirs else 1.0
    total = precision + recall
    return 2 * precision * recall / total if total else 0.0
