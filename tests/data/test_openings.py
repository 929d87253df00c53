"""Beginnings of texts as prompts, and labelled sentences as rankings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_jax.data import Prompt, Text
from rlhf_jax.data.labelled import (
    Labelled,
    labelled_rankings,
    labelled_sentences,
    written,
)
from rlhf_jax.data.openings import openings
from rlhf_jax.errors import InputError

TEXTS = st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda t: t.strip())


@given(text=TEXTS, per_text=st.integers(1, 4), least=st.integers(1, 5))
def test_an_opening_is_the_beginning_of_its_text(text, per_text, least):
    record = Text(id="a", text=text, split="valid")
    found = list(openings([record], per_text=per_text, min_words=least, max_words=9))
    assert len({row.id for row in found}) == len(found) <= per_text
    for row in found:
        assert row.prompt and row.prompt in text
        assert len(row.prompt) < len(text)
        assert (row.split, row.group) == ("valid", "a")


def test_the_openings_of_a_text_do_not_depend_on_the_others():
    texts = [Text(id=str(i), text="one two three four five six") for i in range(5)]
    everything = list(openings(texts, min_words=1, max_words=5))
    alone = list(openings(texts[3:4], min_words=1, max_words=5))
    assert alone[0] in everything


@pytest.mark.parametrize("least, most, count", [(0, 3, 1), (4, 3, 1), (1, 3, 0)])
def test_bounds_that_leave_no_opening_are_refused(least, most, count):
    with pytest.raises(InputError, match="openings"):
        list(openings([], min_words=least, max_words=most, per_text=count))


@pytest.mark.parametrize(
    "tokenised, plain",
    [
        ("it wo n't work , though", "It won't work, though."),
        ("`` hello '' -lrb- really -rrb-", '" hello " ( really ).'),
        ("what 's that ?", "What's that?"),
        ("", ""),
    ],
)
def test_tokenised_text_is_written_as_people_write(tokenised, plain):
    assert written(tokenised) == plain


@given(
    labels=st.lists(st.integers(0, 2), min_size=2, max_size=12).filter(
        lambda labels: len(set(labels)) > 1
    ),
    k=st.integers(2, 5),
    seed=st.integers(0, 5),
)
def test_a_better_label_always_ranks_better(labels, k, seed):
    sentences = [Labelled(f"w{label}", label) for label in labels]
    prompts = [Prompt(id="p", prompt="Once")]
    rows = list(
        labelled_rankings(
            sentences, prompts, count=3, responses=k, max_words=8, seed=seed
        )
    )
    assert len(rows) == 3
    for row in rows:
        assert len(row.responses) == k and row.pairs
        of = [int(text[1]) for text in row.responses]
        for better, worse in row.pairs:
            assert of[better] > of[worse]
        assert all(len(text.split()) >= 6 for text in row.responses)


def test_one_label_alone_ranks_nothing():
    with pytest.raises(InputError, match="two labels"):
        list(labelled_rankings([Labelled("a", 1)], [], count=1))


def test_a_bad_label_is_told_by_its_line(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("sentence\tlabel\ngood one\t1\nbad\tworst\n")
    with pytest.raises(InputError, match=r"a\.tsv:3: label: .*'worst'"):
        labelled_sentences(path)
    path.write_text("sentence\tlabel\ngood one\t1\nbad\t0\n")
    assert labelled_sentences(path, min_words=2) == [Labelled("good one", 1)]
