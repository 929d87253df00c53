import dataclasses

import pytest

from rlhf_jax.simulation import make_world
from rlhf_jax.simulation.claims import Claim, affirmed_values, claims, sentences, words
from rlhf_jax.simulation.dice import Dice
from rlhf_jax.simulation.facts import SUBJECT_KIND, relations_of
from rlhf_jax.simulation.relations import RELATIONS

KEYS = sorted(make_world(0).facts)


def test_every_subject_has_every_relation_of_its_kind(world):
    wanted = {(s, n) for s, kind in SUBJECT_KIND.items() for n in relations_of(kind)}
    assert set(world.facts) == wanted
    for (_, name), value in world.facts.items():
        assert value in RELATIONS[name].domain


def test_a_false_value_is_found_where_all_subjects_share_the_true_one(world):
    name = "direction"
    shared = {key: "north" if key[1] == name else v for key, v in world.facts.items()}
    flat = dataclasses.replace(world, facts=shared, myths={})
    (town, _) = next(key for key in shared if key[1] == name)
    assert flat.false_value(Dice("flat"), town, name) in {"south", "east", "west"}


def test_every_myth_is_false(world):
    assert len(world.myths) >= 30
    for (subject, name), value in world.myths.items():
        assert world.facts[subject, name] != value
        assert value in RELATIONS[name].domain


def test_another_seed_is_another_valley_of_the_same_animals(world):
    other = make_world(1)
    changed = {key for key in world.facts if world.facts[key] != other.facts[key]}
    assert changed and all(SUBJECT_KIND[s] != "animal" for s, _ in changed)


@pytest.mark.parametrize("name", RELATIONS)
def test_every_way_to_state_a_fact_is_read_as_that_fact(world, name):
    for subject, relation in KEYS:
        if relation != name:
            continue
        for form in RELATIONS[name].state:
            for value in {
                world.facts[subject, name],
                world.false_value(Dice("v"), subject, name),
            }:
                text = world.phrase(form, subject, name, value) + "."
                assert Claim(subject, name, value, True) in claims(text), text
                right = all(c.is_true(world) for c in claims(text))
                assert right == world.holds(subject, name, value), text


@pytest.mark.parametrize("name", RELATIONS)
def test_every_denial_is_read_as_a_denial(world, name):
    for subject, relation in KEYS:
        if relation == name:
            value = world.false_value(Dice("v", subject), subject, name)
            found = claims(world.denial(subject, name, value))
            assert Claim(subject, name, value, False) in found
            assert all(c.is_true(world) for c in found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The mouse eats seeds, not cheese.", [("seeds", True), ("cheese", False)]),
        ("No, the mouse eats seeds.", [("seeds", True)]),
        (
            "The mouse never eats cheese. It eats seeds.",
            [("cheese", False), ("seeds", True)],
        ),
        ("The mouse ate cheese by the river.", []),
        ("Cheese is good.", []),
    ],
)
def test_negation_tense_and_pronouns_are_understood(text, expected):
    assert [(c.value, c.affirmed) for c in claims(text)] == expected


def test_it_means_what_the_question_was_about():
    assert claims("It eats seeds.", about="mouse") == [
        Claim("mouse", "food", "seeds", True)
    ]
    assert claims("She eats seeds.", about="mouse") == []


def test_values_are_split_into_affirmed_and_denied():
    assert affirmed_values("Seeds, not cheese.", "food") == (["seeds"], ["cheese"])


def test_words_and_sentences_of_odd_texts():
    assert words("") == [] and sentences(" .!?\n") == []
    assert sentences("One. Two!\nThree") == ["One.", "Two!", "Three"]
