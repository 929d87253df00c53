"""Other people's comparisons -> rankings."""

import itertools
import os.path
from collections.abc import Iterable, Iterator
from typing import Any

from rlhf_jax.data.records import Ranking, dense_ranks, stable_id
from rlhf_jax.data.rows import Row, RowError, as_dict, as_list, as_text

CHOICES = {"a": [1, 2], "b": [2, 1], "both": [1, 1], "neither": [1, 1]}
SENTIMENT_PROMPT = "Write a sentence of a film review."
GROUP = 4  # labelled sentences per ranking: the paper's least K


def argilla(row: Row) -> Iterator[Ranking]:
    """Argilla: a prompt, named responses, and a list of {value, rank} per annotator.

    The ranking stands under "ranking" or "ranking-responses", as plain list or as
    {"user_id", "value", "status"} per annotator; values name the response columns,
    either by name ("response-1") or by the numbers in it.
    """
    fields = as_dict(row.value.get("fields", row.value), "fields")
    prompt = as_text(fields.get("prompt", fields.get("instruction")), "prompt")
    name = row.optional_text("id") or row.name
    for labeler, answers in _argilla_answers(row):
        responses, ranks = [], []
        for i, item in enumerate(answers):
            answer = as_dict(item, f"ranking[{i}]")
            column = as_text(answer.get("value"), f"ranking[{i}].value")
            if type(answer.get("rank")) is not int:
                raise RowError(f"ranking[{i}].rank", "expected a whole number")
            responses.append(as_text(fields.get(column), column))
            ranks.append(answer["rank"])
        suffix = "" if labeler is None else f"/{labeler}"
        yield Ranking(
            id=name + suffix,
            prompt=prompt,
            responses=responses,
            ranks=dense_ranks(ranks),
            labeler=labeler,
            group=name,
            source="argilla",
        )


def _argilla_answers(row: Row) -> Iterator[tuple[str | None, list[Any]]]:
    """(labeler, list of {value, rank}) of every submitted answer."""
    value = row.value.get("ranking", row.value.get("ranking-responses"))
    found = as_list(value, "ranking")
    if found and "rank" in as_dict(found[0], "ranking[0]"):
        yield None, found
        return
    for i, item in enumerate(found):
        answer = as_dict(item, f"ranking[{i}]")
        if answer.get("status", "submitted") != "submitted":
            row.notes.append("answer that was not submitted")
        else:
            user = answer.get("user_id")
            labeler = None if user is None else str(user)
            yield labeler, as_list(answer.get("value"), f"ranking[{i}].value")


def pplm(row: Row) -> Iterator[Ranking]:
    """PPLM's A/B test: three annotators said which text fits a topic better.

    Both texts continue one prefix, which becomes the prompt together with the topic.
    "both" and "neither" are ties.
    """
    topic = os.path.splitext(os.path.basename(row.text("file")))[0]
    texts = [row.text("text_a"), row.text("text_b")]
    prefix = shared_words(*texts)
    prompt = f"Continue the text. Topic or tone: {topic}.\n\n{prefix}".rstrip()
    for i, item in enumerate(as_list(row.value.get("annotators"), "annotators")):
        label = as_dict(item, f"annotators[{i}]").get("label")
        if label is None:
            row.notes.append("annotator without a label")
            continue
        if not isinstance(label, str) or label not in CHOICES:
            raise RowError(
                f"annotators[{i}].label",
                f"expected a, b, both or neither, got {label!r}",
            )
        yield Ranking(
            id=f"{row.name}/{i + 1}",
            prompt=prompt,
            responses=[text[len(prefix) :] for text in texts],
            ranks=list(CHOICES[label]),
            labeler=f"annotator {i + 1}",
            group=f"pplm/{stable_id(prompt)}",
            source="pplm",
        )


def shared_words(a: str, b: str) -> str:
    """The words with which both texts begin.

    >>> shared_words("To review, we will", "To review, this is")
    'To review,'
    """
    prefix = os.path.commonprefix([a, b])
    return prefix.rpartition(" ")[0] if len(prefix) < min(len(a), len(b)) else ""


def labelled_groups(rows: Iterable[Row]) -> Iterator[Row]:
    """Labelled sentences (SST-2's columns), four at a time as one row."""
    iterator = iter(rows)
    while group := list(itertools.islice(iterator, GROUP)):
        value = {"sentences": [row.value for row in group]}
        raw = b"\n".join(row.raw for row in group)
        yield Row(group[0].file, group[0].line, value, raw)


def labelled(row: Row) -> Iterator[Ranking]:
    """Sentences ranked by their label, the greatest best, equal labels tied.

    This is how a labelled set stands in for comparisons: what is preferred is the
    sentiment (as in Ziegler et al. 2019, who had people choose it).
    """
    sentences = row.value["sentences"]
    labels = []
    for i, item in enumerate(sentences):
        label = item.get("label") if isinstance(item, dict) else None
        if isinstance(label, bool) or not str(label).strip().isdigit():
            raise RowError(
                f"label (row {i + 1} of 4)", f"expected a number, got {label!r}"
            )
        labels.append(int(label))
    if len(sentences) < 2:
        row.notes.append("last labelled sentence, alone")
        return
    yield Ranking(
        id=row.name,
        prompt=SENTIMENT_PROMPT,
        responses=[as_text(item.get("sentence"), "sentence") for item in sentences],
        ranks=dense_ranks([-label for label in labels]),
        source="labelled sentences",
    )
