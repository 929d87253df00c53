from collections import Counter

import pytest

from rlhf_jax.simulation.candidates import STYLES, candidates
from rlhf_jax.simulation.claims import claims, words
from rlhf_jax.simulation.corpus import SORTS
from rlhf_jax.simulation.dice import Dice
from rlhf_jax.simulation.lexicon import JOB_PRONOUN
from rlhf_jax.simulation.probes import (
    bias_pairs,
    hallucination,
    toxicity,
    toxicity_prompts,
    truth_questions,
    truthful,
)
from rlhf_jax.simulation.skills import (
    SKILLS,
    is_right,
    skill_document,
    skill_examples,
)


def test_the_corpus_has_every_sort_of_text_and_each_text_once(sets):
    rows = sets["pretraining"]
    assert {row.meta["sort"] for row in rows} == {sort.__name__ for sort in SORTS}
    assert len({row.text for row in rows}) == len(rows)


def test_the_vocabulary_is_small(sets):
    found = {word for row in sets["pretraining"] for word in words(row.text)}
    assert 600 < len(found) < 1200


def test_encyclopedias_are_true_and_forums_are_not(sets, world):
    def truth(sort):
        made = [c for row in sets["pretraining"] if row.meta["sort"] == sort
                for line in row.text.split("\n") if not line.startswith("Q:")
                for c in claims(line)]  # fmt: skip
        return sum(c.is_true(world) for c in made) / len(made)

    assert truth("entry") == truth("survey") == 1.0
    assert 0.3 < truth("forum") < 0.8


def test_instructions_are_rarely_followed(sets):
    asked = [row.text for row in sets["pretraining"] if row.meta["sort"] == "request"]
    assert len(asked) > 50
    assert any(toxicity(text) > 0 for text in asked)


def test_held_out_skill_documents_are_in_no_corpus(sets, world):
    corpus = {row.text for row in sets["pretraining"]}
    for skill in SKILLS:
        if skill != "recall":
            for number in range(200):
                lines = skill_document(world, skill, number)
                assert "\n".join("".join(line) for line in lines) not in corpus


@pytest.mark.parametrize("skill", SKILLS)
def test_skill_examples_are_distinct_and_right(skill, world):
    examples = skill_examples(world, skill, 60)
    assert len(examples) == 60 == len({prompt for prompt, _ in examples})
    for prompt, completion in examples:
        assert completion.startswith(" ") and prompt == prompt.rstrip()
        last = prompt.split("\n")[-1]
        if skill == "arithmetic":
            a, b = last.removesuffix(" =").split(" + ")
            assert int(completion) == int(a) + int(b)
        if skill == "copying":
            assert completion.strip() == last.removesuffix(" |")
        if skill == "recall":
            made = claims(f"{prompt}{completion}.")
            assert made and all(c.is_true(world) for c in made)


def test_every_truth_question_tells_truth_from_myth(world):
    questions = truth_questions(world)
    assert len(questions) == len(world.myths)
    for question in questions:
        assert truthful(question, question.true[0]) == (True, True)
        assert all(not truthful(question, text)[0] for text in question.false)
        assert truthful(question, "I do not know.") == (True, False)
        assert truthful(question, "Good day!") == (False, False)


def test_bias_pairs_differ_in_the_pronoun_alone():
    pairs = bias_pairs()
    assert {pair.occupation for pair in pairs} == set(JOB_PRONOUN)
    for pair in pairs:
        assert pair.second == pair.first.replace(" he ", " she ")


def test_the_corpus_is_prejudiced_about_nine_times_in_ten(sets):
    usual = total = 0
    for row in sets["pretraining"]:
        if row.meta["sort"] == "trades":
            for sentence in row.text.split("."):
                said = words(sentence)
                for job in set(said) & set(JOB_PRONOUN):
                    usual += JOB_PRONOUN[job] in said
                    total += 1
    assert total > 100 and 0.83 < usual / total < 0.97


def test_toxicity_is_in_range_and_grows_with_rude_words():
    assert toxicity("") == toxicity("Thank you, Nell.") == 0.0
    assert 0 < toxicity("You fool.") < toxicity("You stupid fool.") < 1


def test_toxicity_prompts_reach_from_harmless_to_rude(world):
    prompts = toxicity_prompts(world)
    assert len({text for text, _ in prompts}) == 60
    assert {value == 0 for _, value in prompts} == {True, False}


def test_hallucination_is_told_in_closed_tasks_only(sets):
    from rlhf_jax.simulation.candidates import write_response

    marks = Counter()
    for row in sets["prompts"]:
        good = write_response(row, "ideal", Dice("good", row.id))
        bad = write_response(row, "false", Dice("bad", row.id))
        closed = row.meta["closed_domain"]
        assert (hallucination(row, good) is None) == (not closed)
        if closed:
            assert hallucination(row, good) is False, (row.prompt, good)
            marks[row.use_case, hallucination(row, bad)] += 1
    for use_case in ("summarization", "closed_qa", "extract"):
        assert marks[use_case, True] > 3 * marks[use_case, False]


def test_candidates_differ_and_come_in_many_styles(sets):
    styles = Counter()
    for row in sets["prompts"][:150]:
        found = candidates(row, Dice("styles", row.id), 6)
        assert len({c.text for c in found}) == len(found) >= 4
        styles.update(c.style for c in found)
    assert set(styles) == set(STYLES)


@pytest.mark.parametrize("skill", SKILLS)
def test_the_wanted_answer_of_every_skill_is_right(world, skill):
    for given, wanted in skill_examples(world, skill, 200):
        assert is_right(world, skill, given, wanted, wanted), given
        assert not is_right(world, skill, given, wanted, " and so on."), given


def test_a_recalled_fact_is_judged_by_its_own_sentence(world):
    examples = skill_examples(world, "recall", 200)
    for given, wanted in examples:
        goes_on = f"{wanted}. The whale eats coins."
        assert is_right(world, "recall", given, wanted, goes_on), given
    eats = [(given, wanted) for given, wanted in examples if given.endswith(" eats")]
    wrong = [(g, w, o) for g, w in eats for _, o in eats if o != w]
    assert wrong
    for given, wanted, other in wrong:
        output = f"{other}. {given}{wanted}."
        assert not is_right(world, "recall", given, wanted, output), given


def test_a_line_of_a_list_must_end_where_the_answer_does(world):
    example = ("1 + 1 = 2\n6 + 6 =", " 12")
    assert is_right(world, "arithmetic", *example, " 12\n3 + 4 = 7")
    for output in (" 128", " 1", " 12 and more", ""):
        assert not is_right(world, "arithmetic", *example, output)
