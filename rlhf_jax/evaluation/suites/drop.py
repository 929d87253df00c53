"""DROP: questions over a passage whose answer must be counted, added or sorted out.

Reads the published JSON (`{passage id: {"passage", "qa_pairs": [...]}}`) and the flat
rows of the hub (`passage`, `question`, `answers_spans`).
"""

import os
from typing import Any

from rlhf_jax.errors import InputError
from rlhf_jax.evaluation.suites.files import Row, read_document, read_rows
from rlhf_jax.evaluation.suites.prompts import drop_query
from rlhf_jax.evaluation.suites.reading import drop_em_f1
from rlhf_jax.evaluation.suites.tasks import Item, f1_and_match


def read_drop(source: str | os.PathLike) -> list[Item]:
    """Items of a DROP file or hub name.

    Raises:
      InputError: not the published format, with the place.
    """
    if str(source).startswith("hub:") or ".jsonl" in str(source):
        rows = read_rows(source, columns=("passage", "question", "answers_spans"))
        pairs = [(row, [_hub_spans(row)]) for row in rows]
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


def _hub_spans(row: Row) -> tuple[str, ...]:
    found = row.value("answers_spans")
    spans = found.get("spans") if isinstance(found, dict) else None
    if not spans:
        raise row.wrong("answers_spans", "expected an object with spans")
    return tuple(spans)


drop_scores = f1_and_match(drop_em_f1)
