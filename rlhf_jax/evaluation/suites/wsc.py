"""Winograd schemas (SuperGLUE's WSC): what does the pronoun refer to?

The model answers freely; the schema counts as "True" if its answer contains the noun or
the noun contains its answer, else as "False", and that is compared with the label.

Source: Ouyang et al. 2022, appendix D.
"""

import os

from rlhf_jax.evaluation.suites.files import Row, read_rows
from rlhf_jax.evaluation.suites.prompts import wsc_query
from rlhf_jax.evaluation.suites.reading import normal_text
from rlhf_jax.evaluation.suites.tasks import Item, measured

_LABELS = {True: True, False: False, "True": True, "False": False, "1": True}


def read_wsc(source: str | os.PathLike) -> list[Item]:
    """SuperGLUE's JSON lines: `text`, `target` (spans), `label`.

    Only schemas labelled true make examples, since only they state the right noun; the
    reader orders them as the file does and marks the rest by an empty answer.
    """
    items = []
    for number, row in enumerate(read_rows(source, columns=("text", "label"))):
        spans = row.fields.get("target", row.fields)
        if not isinstance(spans, dict):
            raise row.wrong("target", "expected an object with the two spans")
        target = Row({**spans, "text": row.value("text")}, row.place)
        noun, pronoun = target.text("span1_text"), target.text("span2_text")
        label = row.choice("label", _LABELS)
        items.append(
            Item(
                str(row.fields.get("idx", number)),
                wsc_query(_marked(target, pronoun), pronoun),
                noun if label else "",
                references=(noun, label),
            )
        )
    return items


def _marked(row: Row, pronoun: str) -> str:
    """The passage with *asterisks* around the pronoun at its word index."""
    words = row.text("text").split(" ")
    index = row.value("span2_index")
    if not isinstance(index, int) or not 0 <= index < len(words):
        raise row.wrong("span2_index", f"expected a word index, found {index!r}")
    word = words[index]
    if not word.lower().startswith(pronoun.lower()):
        raise row.wrong(
            "span2_index", f"word {index} is {word!r}, not the pronoun {pronoun!r}"
        )
    words[index] = f"*{word[: len(pronoun)]}*{word[len(pronoun) :]}"
    return " ".join(words)


def refers_to(output: str, noun: str) -> bool:
    """Whether the answer contains the noun or the noun contains the answer."""
    said, noun = normal_text(output), normal_text(noun)
    return bool(said) and (said in noun or noun in said)


def _agrees(output: str, reference: tuple[str, bool]) -> float:
    """1 where the true/false reading of an answer is the schema's label."""
    noun, label = reference
    return float(refers_to(output, noun) == label)


wsc_scores = measured({"accuracy": _agrees})
