"""DROP: questions over a passage whose answer must be counted, added or sorted out.

Reads the published JSON (`{passage id: {"passage", "qa_pairs": [...]}}`) and the flat
rows of the hub (`passage`, `question`, `answers_spans`). The hub's rows hold the spans
of all annotators in one list: what one of them wrote is an answer.
"""

import itertools
import os
from typing import Any

from rlhf_jax.errors import InputError
from rlhf_jax.evaluation.suites.files import Row, kind_of, read_document, read_rows
from rlhf_jax.evaluation.suites.prompts import drop_query
from rlhf_jax.evaluation.suites.reading import drop_em_f1, drop_words
from rlhf_jax.evaluation.suites.tasks import Item, f1_and_match


def read_drop(source: str | os.PathLike) -> list[Item]:
    """Items of a DROP file or hub name.

    Raises:
      InputError: not the published format, with the place.
    """
    if str(source).startswith("hub:") or kind_of(source) in ("jsonl", "parquet"):
        rows = read_rows(source, columns=("passage", "question", "answers_spans"))
        alone = "train" in os.path.basename(str(source))
        pairs = [(row, _hub_references(row, alone=alone)) for row in rows]
    else:
        pairs = [(row, _references(row)) for row in _published_rows(source)]
    return [
        Item(
            row.text("query_id"),
            drop_query(row.text("passage"), row.text("question")),
            ", ".join(references[0]),
            references=tuple(references),
            cluster=row.text("passage"),
        )
        for row, references in pairs
    ]


def _published_rows(source: str | os.PathLike) -> list[Row]:
    document = read_document(source)
    try:
        rows = [
            Row(
                {**pair, "passage": entry["passage"]},
                f"{source}: passage {name!r}, question {pair.get('query_id')!r}",
            )
            for name, entry in document.items()
            for pair in entry["qa_pairs"]
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{source}:1: not DROP's format: {error!r}; expected passage id -> qa_pairs"
        ) from None
    if not rows:
        raise InputError(f"{source}: has no questions")
    return rows


def _references(row: Row) -> list[tuple[str, ...]]:
    answers = [row.value("answer"), *row.fields.get("validated_answers", ())]
    spans = [_spans(answer, row) for answer in answers]
    spans = [some for some in spans if "".join(some).strip()]
    if not spans:
        raise row.wrong("answer", "is empty")
    return spans


def _spans(answer: Any, row: Row) -> tuple[str, ...]:
    if not isinstance(answer, dict):
        raise row.wrong("answer", f"expected an object, found {answer!r}")
    if answer.get("number") not in (None, ""):
        return (str(answer["number"]),)
    if answer.get("spans"):
        return tuple(map(str, answer["spans"]))
    date = answer.get("date") or {}
    parts = [str(date.get(part, "")) for part in ("day", "month", "year")]
    return (" ".join(parts).strip(),)


def _hub_references(row: Row, *, alone: bool) -> list[tuple[str, ...]]:
    """The answers in a row of the hub.

    Training questions have one annotator (`alone`), whose spans are one answer. Of
    several annotators, the spans that all of them wrote, in turn, are one answer of
    several spans; else each span is an answer, and so are the different ones together,
    since the row does not tell who wrote which.
    """
    spans = _joined_dates(row)
    block = _repeated(spans)
    if alone or 1 < len(block) < len(spans):
        return [tuple(spans if alone else block)]
    single = list(dict.fromkeys((span,) for span in spans))
    different = {" ".join(drop_words(span)): span for span in reversed(spans)}
    together = tuple(reversed(different.values()))
    return [*single, together] if len(together) > 1 else single


def _joined_dates(row: Row) -> list[str]:
    """The spans, day, month and year of a date as one."""
    found = row.value("answers_spans")
    found = found if isinstance(found, dict) else {}
    spans, types = found.get("spans"), found.get("types")
    if (
        not isinstance(spans, list)
        or not all(isinstance(span, str) for span in spans)
        or not "".join(spans).strip()
    ):
        raise row.wrong("answers_spans", "expected an object with spans")
    if not isinstance(types, list) or len(types) != len(spans):
        types = ["span"] * len(spans)
    out: list[str] = []
    for kind, group in itertools.groupby(
        zip(types, spans, strict=True), lambda p: p[0]
    ):
        texts = [span for _, span in group if span.strip()]
        if kind == "date" and texts:
            block = _repeated(texts)
            texts = [" ".join(block)] * (len(texts) // len(block))
        out += texts
    return out


def _repeated(items: list[str]) -> list[str]:
    """The least beginning whose repetitions are the whole list."""
    for size in range(1, len(items)):
        if items == items[:size] * (len(items) // size):
            return items[:size]
    return items


drop_scores = f1_and_match(drop_em_f1)
