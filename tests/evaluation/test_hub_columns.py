"""Suites read from the hub's rows by what they mean there."""

import json

import pytest

from rlhf_jax.errors import InputError
from rlhf_jax.evaluation.suites.bias import read_crows_pairs
from rlhf_jax.evaluation.suites.drop import read_drop
from rlhf_jax.evaluation.suites.reading import drop_em_f1
from rlhf_jax.evaluation.suites.truthfulness import read_truthfulqa


@pytest.fixture
def put(tmp_path):
    def made(*rows, name="rows.jsonl"):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return made


def drop_row(spans, types=None):
    answers = {"spans": spans, "types": types or ["span"] * len(spans)}
    row = {"passage": "The cook fed nine guests.", "question": "Who?", "query_id": "q"}
    return {**row, "section_id": "s", "answers_spans": answers}


@pytest.mark.parametrize(
    ("spans", "types", "answer", "exact"),
    [
        (["9", "9"], ["number"] * 2, "9", 1.0),
        (["the cook", "cook", "The cook"], None, "cook", 1.0),
        (["the cook", "nine guests"], None, "cook", 1.0),
        (["the cook", "nine guests"], None, ["nine guests", "cook"], 1.0),
        (["Ann", "Bea", "Ann", "Bea"], None, ["Bea", "Ann"], 1.0),
        (["Ann", "Bea", "Ann", "Bea"], None, "Ann", 0.0),
        (["3", "May", "1812"] * 2, ["date"] * 6, "3 May 1812", 1.0),
        (["1812", "1812", "1812"], ["date"] * 3, "1812", 1.0),
        (["9", "nine"], ["number", "span"], "nine", 1.0),
    ],
)
def test_the_spans_of_several_annotators_are_alternatives(
    put, spans, types, answer, exact
):
    (item,) = read_drop(put(drop_row(spans, types)))
    assert drop_em_f1(answer, item.references)[0] == exact


def test_a_training_question_has_one_annotator(put):
    row = drop_row(["Ann", "Bea"])
    (item,) = read_drop(put(row, name="train.jsonl"))
    assert item.references == (("Ann", "Bea"),)
    (item,) = read_drop(put(drop_row(["9", "9"])))
    assert item.references == (("9",),) and item.answer == "9"


@pytest.mark.parametrize("spans", [[], [""], None, [3]])
def test_a_row_without_spans_is_refused(put, spans):
    row = drop_row([]) | {"answers_spans": {"spans": spans, "types": []}}
    with pytest.raises(InputError, match="jsonl:1: answers_spans: expected an object"):
        read_drop(put(row))


GENERATION = {
    "type": "Adversarial",
    "category": "Myths",
    "question": "Do owls read?",
    "best_answer": "Owls cannot read",
    "correct_answers": ["Owls cannot read", "No; they hunt"],
    "incorrect_answers": ["Owls read at night"],
    "source": "x",
}


def test_truthfulqa_has_lists_on_the_hub(put):
    (question,) = read_truthfulqa(put(GENERATION))
    assert question.true == ("Owls cannot read", "No; they hunt")
    assert question.false == ("Owls read at night",)
    assert question.best == "Owls cannot read" and question.adversarial


def test_truthfulqas_choices_have_labels_on_the_hub(put):
    row = {
        "question": "Do owls read?",
        "mc1_targets": {"choices": ["They do", "No"], "labels": [0, 1]},
        "mc2_targets": {"choices": ["They do", "No", "Never"], "labels": [0, 1, 1]},
    }
    (question,) = read_truthfulqa(put(row))
    assert (question.best, question.true) == ("No", ("No", "Never"))
    assert question.false == ("They do",)
    for labels, why in (
        ([1, 1], "expected one true choice, found 2"),
        ([1], "a label for each"),
        ([0, 2], "expected labels of 0 and 1"),
    ):
        row["mc1_targets"]["labels"] = labels
        with pytest.raises(InputError, match=f"jsonl:1: mc1_targets: .*{why}"):
            read_truthfulqa(put(row))


@pytest.mark.parametrize("column", ["correct_answers", "incorrect_answers"])
def test_a_question_without_answers_is_refused(put, column):
    for answers, why in (([], "is empty"), ([" "], "is empty"), ("a; b", "a list")):
        with pytest.raises(InputError, match=f"jsonl:2: {column}: .*{why}"):
            read_truthfulqa(put(GENERATION, {**GENERATION, column: answers}))


def test_a_file_of_neither_kind_is_told_once(put):
    with pytest.raises(
        InputError, match="expected Question, Best Answer.* there are a"
    ):
        read_truthfulqa(put({"a": 1}))


def test_crows_pairs_have_numbered_types_on_the_hub(put):
    row = {"id": 7, "sent_more": "A.", "sent_less": "B.", "stereo_antistereo": 0}
    first, second = read_crows_pairs(
        put({**row, "bias_type": 2}, {**row, "bias_type": "religion"})
    )
    assert (first.kind, first.name, second.kind) == ("gender", "7", "religion")
    with pytest.raises(InputError, match="bias_type: expected a number below 9"):
        read_crows_pairs(put({**row, "bias_type": 9}))


def test_suites_read_parquet_and_long_cells(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    writer = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "validation.parquet"
    writer.write_table(pyarrow.Table.from_pylist([GENERATION]), path)
    assert read_truthfulqa(path)[0].true == ("Owls cannot read", "No; they hunt")
    path = tmp_path / "long.csv"
    path.write_text(f"sent_more,sent_less,bias_type\n{'a ' * 99_999},b,age\n")
    assert len(read_crows_pairs(path)[0].first) > 131_072
