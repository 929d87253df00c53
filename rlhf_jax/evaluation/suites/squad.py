"""SQuADv2: answers extracted from a paragraph, or none.

Reads the published JSON (`{"data": [{"title", "paragraphs": [...]}]}`) and the flat
rows of the hub. The earlier questions of a paragraph stand in the prompt with their
answers, as in the outputs released with the paper.
"""

import os

from rlhf_jax.errors import InputError
from rlhf_jax.evaluation.suites.files import Row, read_document, read_rows
from rlhf_jax.evaluation.suites.prompts import squad_query
from rlhf_jax.evaluation.suites.reading import normal_text, squad_em_f1
from rlhf_jax.evaluation.suites.tasks import Item, f1_and_match

UNANSWERABLE = "Not in background."


def read_squad(source: str | os.PathLike) -> list[Item]:
    """Items of a SQuADv2 file or hub name, in file order.

    Raises:
      InputError: not the published format, with the place.
    """
    rows = (
        read_rows(source, columns=("id", "title", "context", "question", "answers"))
        if str(source).startswith("hub:") or ".jsonl" in str(source)
        else _published_rows(source)
    )
    items, earlier = [], []
    for row in rows:
        context = row.text("context")
        if not items or items[-1].cluster != context:
            earlier = []
        question = row.text("question", empty=True)
        texts = _answer_texts(row)
        answer = texts[0] if texts else UNANSWERABLE
        items.append(
            Item(
                row.text("id"),
                squad_query(row.text("title"), context, earlier, question),
                answer,
                references=tuple(texts),
                cluster=context,
            )
        )
        earlier.append((question, answer))
    return items


def _published_rows(source: str | os.PathLike) -> list[Row]:
    document = read_document(source)
    try:
        rows = [
            Row(
                {**qa, "title": article["title"], "context": paragraph["context"]},
                f"{source}: article {article['title']!r}, question {qa.get('id')!r}",
            )
            for article in document["data"]
            for paragraph in article["paragraphs"]
            for qa in paragraph["qas"]
        ]
    except (KeyError, TypeError) as error:
        raise InputError(
            f"{source}:1: not SQuAD's format: {error!r}; expected data -> paragraphs "
            "-> qas"
        ) from None
    if not rows:
        raise InputError(f"{source}: has no questions")
    return rows


def _answer_texts(row: Row) -> list[str]:
    answers = row.value("answers")
    if isinstance(answers, dict):  # the hub's columns
        answers = [{"text": text} for text in answers.get("text", ())]
    if not isinstance(answers, list) or not all(
        isinstance(a, dict) and isinstance(a.get("text"), str) for a in answers
    ):
        raise row.wrong("answers", "expected a list of objects with a text")
    return [a["text"] for a in answers]


def extracted_em_f1(
    prediction: str, references: tuple[str, ...]
) -> tuple[float, float]:
    """SQuAD's (exact match, F1); the sentence that declines counts as no answer."""
    declined = normal_text(prediction) == normal_text(UNANSWERABLE)
    return squad_em_f1("" if declined else prediction, references)


squad_scores = f1_and_match(extracted_em_f1)
