"""The paper's rules for prompts; splits that nobody's new data moves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlhf_jax.data import ByteTokenizer, Demonstration, Prompt, Ranking
from rlhf_jax.data.expansion import (
    few_shot_demonstrations,
)
from rlhf_jax.data.hygiene import (
    cap_per_user,
    clean,
    drop_long_prompts,
    drop_near_duplicates,
    drop_pii,
    split_by_user,
    split_leaks,
    tag_language,
)
from rlhf_jax.data.language import language
from rlhf_jax.errors import InputError


def prompts(*texts, **fields):
    return [Prompt(id=str(i), prompt=text, **fields) for i, text in enumerate(texts)]


def ids(cleaned):
    return [record.id for record in cleaned.records]


def test_prompts_over_the_limit_are_dropped_and_counted():
    cleaned = drop_long_prompts(prompts("a" * 11, "a" * 10), ByteTokenizer(), 10)
    assert ids(cleaned) == ["1"]
    assert (cleaned.report.read, cleaned.report.kept) == (2, 1)


def test_near_duplicates_share_a_long_prefix_and_the_first_stays():
    long = "word " * 100
    rows = prompts(long + "end", "short", long + "fin", "Short ", "short!", long * 3)
    assert ids(drop_near_duplicates(rows)) == ["0", "1", "4", "5"]


@given(st.lists(st.text("ab", min_size=1, max_size=30), max_size=12))
def test_near_duplicates_equal_the_comparison_of_all_pairs_in_sorted_order(texts):
    kept = drop_near_duplicates(prompts(*texts), prefix=5, share=0.5).records
    assert len({p.prompt for p in kept}) == len(kept)
    again = drop_near_duplicates(prompts(*texts), prefix=5, share=0.5).records
    assert kept == again


def test_no_user_keeps_more_than_the_limit_whatever_the_order():
    rows = [Prompt(id=str(i), prompt=f"p{i}", user="u") for i in range(30)]
    rows += prompts("x", "y")
    first, second = cap_per_user(rows, 5), cap_per_user(rows[::-1], 5)
    assert set(ids(first)) == set(ids(second)) and len(first.records) == 7
    assert first.report.counts["users_over_the_limit"] == 1


def test_a_user_is_in_one_split_and_new_data_moves_nobody():
    rows = [Prompt(id=str(i), prompt=f"p{i}", user=f"u{i % 50}") for i in range(200)]
    before = {r.user: r.split for r in split_by_user(rows[:100]).records}
    after = split_by_user(rows).records
    assert all(record.split == before[record.user] for record in after)
    assert split_leaks(after) == []


def test_split_shares_are_about_as_asked_for():
    rows = [Prompt(id=str(i), prompt="p", user=f"u{i}") for i in range(2000)]
    counts = split_by_user(rows, valid=0.2, test=0.1).report.counts
    assert abs(counts["valid"] - 400) < 60 and abs(counts["test"] - 200) < 50
    with pytest.raises(InputError, match="within 0..1"):
        split_by_user(rows, valid=0.9, test=0.2)


def test_leaks_between_splits_are_named():
    rows = [
        Prompt(id="a", prompt="One  two", split="train", group="g"),
        Prompt(id="b", prompt="one two", split="valid", group="h"),
        Prompt(id="c", prompt="three", split="test", group="g"),
    ]
    leaks = split_leaks(rows)
    assert len(leaks) == 2
    assert "id 'b': prompt" in leaks[0] and "id 'c': group" in leaks[1]


def test_personal_data_leaves_the_training_split_alone_wherever_it_stands():
    mail = "write to ann@example.org"
    rows = [
        Demonstration(id="1", prompt=mail, response="ok", split="train"),
        Demonstration(id="2", prompt=mail, response="ok", split="valid"),
        Ranking(id="3", prompt="p", responses=["a", mail], ranks=[1, 2]),
        Demonstration(id="4", prompt="p", response="ok", split="train"),
    ]
    cleaned = drop_pii(rows)
    assert ids(cleaned) == ["2", "4"] and cleaned.report.counts["email"] == 2


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Write a short story about a dog.", "en"),
        ("Schreibe eine kurze Geschichte über einen Hund, der nicht schläft.", "de"),
        ("Écris une histoire pour les enfants dans la forêt.", "fr"),
        ("Escribe una historia sobre el perro y los gatos.", "es"),
        ("Scrivi una storia che parli di un cane con gli amici della città.", "it"),
        ("Напиши рассказ о собаке", "ru"),
        ("写一个关于狗的故事", "zh"),
        ("犬についての話を書いて", "ja"),
        ("강아지 이야기를 써 줘", "ko"),
        ("", "und"),
        ("1 + 1 = ?", "und"),
    ],
)
def test_the_language_of_a_prompt(text, code):
    assert language(text) == code


def test_all_rules_together_report_each_step():
    rows = [
        Prompt(id=str(i), prompt=f"Tell me about number {i}.", user=f"u{i % 7}")
        for i in range(40)
    ]
    rows.append(Prompt(id="long", prompt="x" * 2000))
    cleaned, reports = clean(rows, ByteTokenizer(), valid=0.2, test=0.2)
    assert [r.rule for r in reports] == [
        "prompt length",
        "near-duplicates",
        "per user",
        "split",
        "personal data",
        "language",
    ]
    assert len(cleaned) == reports[-1].kept == 40
    assert all(r.meta["language"] == "en" and r.split for r in cleaned)
    assert clean(rows, ByteTokenizer(), valid=0.2, test=0.2)[0] == cleaned


def test_hygiene_changes_no_record_in_place():
    rows = prompts("Hello there")
    tag_language(rows)
    assert rows[0].meta == {}


@given(st.lists(st.tuples(st.text("ab", min_size=1), st.text("cd", min_size=1)),
                min_size=2, max_size=6, unique=True))  # fmt: skip
def test_few_shot_expansion_shows_all_pairs_but_the_one_to_answer(pairs):
    rows = few_shot_demonstrations("g", "Do it.", pairs)
    assert len(rows) == len(pairs) and {row.group for row in rows} == {"g"}
    for i, row in enumerate(rows):
        others = [f"{q}\n{r}" for j, (q, r) in enumerate(pairs) if j != i]
        expected = "\n\n".join(["Do it.", *others, pairs[i][0] + "\n"])
        assert row.prompt == expected and row.response == pairs[i][1]
        assert row.kind == "few-shot"


def test_one_pair_is_no_few_shot_prompt():
    with pytest.raises(InputError, match="at least 2"):
        few_shot_demonstrations("3", "Do it.", [("a", "b")])
