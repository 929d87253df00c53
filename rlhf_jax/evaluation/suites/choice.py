"""HellaSwag, RTE and SST: the option with the highest mean token log-probability."""

import os
import re

from rlhf_jax.evaluation.suites.files import read_rows
from rlhf_jax.evaluation.suites.prompts import hellaswag_query, rte_query, sst_query
from rlhf_jax.evaluation.suites.tasks import Item

_ENTAILED = {
    **dict.fromkeys(("entailment", "YES", "TRUE", 0, "0"), 0),
    **dict.fromkeys(("not_entailment", "NO", "FALSE", 1, "1"), 1),
}
_SENTIMENT = {
    **dict.fromkeys((0, "0", "negative"), 1),
    **dict.fromkeys((1, "1", "positive"), 0),
}


def read_hellaswag(source: str | os.PathLike) -> list[Item]:
    """HellaSwag's JSON lines: `ctx`, `endings` (4), `label`, `activity_label`."""
    items = []
    for number, row in enumerate(
        read_rows(source, columns=("ctx", "endings", "label"))
    ):
        endings = [_without_marks(ending) for ending in row.list("endings")]
        if len(endings) < 2:
            raise row.wrong("endings", f"expected several, found {len(endings)}")
        indices = {i: i for i in range(len(endings))}
        label = row.choice("label", {**indices, **{str(i): i for i in indices}})
        activity = str(row.fields.get("activity_label") or "")
        items.append(
            Item(
                str(row.fields.get("ind", number)),
                hellaswag_query(activity, _without_marks(row.text("ctx"))),
                endings[label],
                options=tuple(f" {ending}" for ending in endings),
                correct=label,
            )
        )
    return items


def _without_marks(text: str) -> str:
    """WikiHow's [title], [step] and so on taken out."""
    text = text.replace(" [title]", ". ")
    return " ".join(re.sub(r"\[.*?\]", "", text).split())


def read_rte(source: str | os.PathLike) -> list[Item]:
    """RTE as SuperGLUE (`premise`, `hypothesis`) or GLUE (`sentence1`, `sentence2`)."""
    items = []
    for number, row in enumerate(read_rows(source, columns=("label",))):
        label = row.choice("label", _ENTAILED)
        conclusion = row.text("hypothesis", "sentence2").strip().rstrip(".")
        items.append(
            Item(
                str(row.fields.get("idx", row.fields.get("index", number))),
                rte_query(row.text("premise", "sentence1"), conclusion),
                ("Yes", "No")[label],
                options=(" Yes", " No"),
                correct=label,
            )
        )
    return items


def read_sst(source: str | os.PathLike) -> list[Item]:
    """SST-2: `sentence` and `label` (1 positive, 0 negative)."""
    items = []
    for number, row in enumerate(read_rows(source, columns=("sentence", "label"))):
        label = row.choice("label", _SENTIMENT)
        items.append(
            Item(
                str(row.fields.get("idx", number)),
                sst_query(row.text("sentence").strip()),
                ("positive", "negative")[label],
                options=(" positive", " negative"),
                correct=label,
            )
        )
    return items
