"""QuAC: a dialogue of questions about one section of an article.

Reads the published JSON (`{"data": [{"title", "section_title", "paragraphs":
[...]}]}`). The dialogue so far stands in the prompt with the annotator's answers.
"""

import os

from rlhf_jax.errors import InputError
from rlhf_jax.evaluation.suites.files import Row, read_document
from rlhf_jax.evaluation.suites.prompts import quac_query
from rlhf_jax.evaluation.suites.reading import (
    NO_ANSWER,
    normal_text,
    quac_f1,
    quac_human_f1,
)
from rlhf_jax.evaluation.suites.tasks import Item, measured

UNKNOWN = "I don't know."
MIN_HUMAN_F1 = 0.4  # the official script leaves out questions people disagree on


def read_quac(source: str | os.PathLike) -> list[Item]:
    """Items of a QuAC file, dialogue by dialogue; contested questions left out.

    Raises:
      InputError: not the published format, with the place.
    """
    items = []
    for article, paragraph, place in _dialogues(source):
        context = str(paragraph["context"]).removesuffix(NO_ANSWER).strip()
        title = " - ".join(
            part
            for part in (article.get("title"), article.get("section_title"))
            if part
        )
        earlier: list[tuple[str, str]] = []
        for qa in paragraph["qas"]:
            row = Row(qa, f"{place}, question {qa.get('id')!r}")
            references, question = _reference_texts(row), row.text("question")
            answer = _said(references[0])
            if quac_human_f1(references) >= MIN_HUMAN_F1:
                items.append(
                    Item(
                        row.text("id"),
                        quac_query(title, context, earlier, question),
                        answer,
                        references=tuple(references),
                        cluster=str(paragraph.get("id", context)),
                    )
                )
            earlier.append((question, answer))
    if not items:
        raise InputError(f"{source}: has no question that its annotators agree on")
    return items


def _dialogues(source: str | os.PathLike):
    document = read_document(source)
    try:
        found = [
            (article, paragraph, f"{source}: dialogue {paragraph.get('id')!r}")
            for article in document["data"]
            for paragraph in article["paragraphs"]
            if paragraph["qas"] and paragraph["context"]
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"{source}:1: not QuAC's format: {error!r}; expected data -> paragraphs -> "
            "qas"
        ) from None
    return found


def _reference_texts(row: Row) -> list[str]:
    answers = row.list("answers", dict)
    if not answers or not all(isinstance(a.get("text"), str) for a in answers):
        raise row.wrong("answers", "expected at least one object with a text")
    return [answer["text"] for answer in answers]


def _said(reference: str) -> str:
    return UNKNOWN if reference == NO_ANSWER else reference


def said_f1(prediction: str, references: tuple[str, ...]) -> float:
    """QuAC's F1; the sentence that declines counts as no answer."""
    declined = normal_text(prediction) == normal_text(UNKNOWN)
    return quac_f1(NO_ANSWER if declined else prediction, references)


# HEQ-Q: the share of questions answered at least as well as by people
quac_scores = measured(
    {
        "F1": said_f1,
        "HEQ-Q": lambda text, refs: float(said_f1(text, refs) >= quac_human_f1(refs)),
    },
    scale=100.0,
)
