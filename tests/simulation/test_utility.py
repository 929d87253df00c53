import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from rlhf_jax.data.records import Prompt
from rlhf_jax.simulation import GOLD_WEIGHTS, make_world, utility
from rlhf_jax.simulation.candidates import dressed, write_response
from rlhf_jax.simulation.dice import Dice
from rlhf_jax.simulation.lexicon import ANIMALS, FOODS, PEOPLE
from rlhf_jax.simulation.manners import INSULTS, PRAISE
from rlhf_jax.simulation.prompts import few_shot_text, make_user, spoken
from rlhf_jax.simulation.relations import RELATIONS
from rlhf_jax.simulation.tasks import TASKS, USE_CASES

numbers = st.integers(0, 10**6)
names = st.sampled_from(sorted(TASKS))


def asked(name: str, number: int) -> Prompt:
    """The prompt of a task and a number, few-shot every third time where it can be."""
    world, task = make_world(0), TASKS[name]
    dice = Dice("test", name, number)
    spec = task.draw(world, dice)
    kind = "few-shot" if task.shot and number % 3 == 0 else "plain"
    if kind == "few-shot":
        text = few_shot_text(world, task, spec, dice)
    else:
        text = spoken(world, task, spec, dice, make_user(0, number), "plain")
    meta = {"world": 0, "task": name, "spec": spec}
    return Prompt(id=f"{name}-{number}", prompt=text, kind=kind, meta=meta)


def written(prompt: Prompt, style: str) -> str:
    return write_response(prompt, style, Dice("answer", prompt.id))


def test_every_use_case_of_table_1_has_tasks():
    assert {task.use_case for task in TASKS.values()} == set(USE_CASES)


@pytest.mark.parametrize("name", sorted(TASKS))
def test_ideal_beats_partial_beats_rude_beats_empty(name):
    ordered = []
    for number in range(100):
        prompt = asked(name, number)
        best, some = written(prompt, "ideal"), written(prompt, "partial")
        rude = dressed(best, some, "rude", Dice("rude", number))
        worth = [utility(prompt, text).total for text in (best, some, rude, "")]
        false = utility(prompt, written(prompt, "false")).total
        ordered.append(worth == sorted(worth, reverse=True) and worth[0] > false)
    assert np.mean(ordered) >= 0.96  # the rest: docs/log.md


@pytest.mark.parametrize("name", sorted(TASKS))
def test_nearly_every_ideal_response_has_every_criterion_and_is_worth_1(name):
    worth = []
    for number in range(200):
        prompt = asked(name, number)
        worth.append(utility(prompt, written(prompt, "ideal")).total)
    # some are a few words too long, and a few are not understood (docs/log.md)
    assert np.mean(np.array(worth) > 0.99) >= 0.95
    assert np.mean(worth) > 0.985


@settings(max_examples=200)
@given(names, numbers)
def test_padding_repetition_praise_and_insults_never_gain(name, number):
    prompt = asked(name, number)
    for base in ("ideal", "partial"):
        text = written(prompt, base)
        worth = utility(prompt, text).total
        worse = [f"{PRAISE[0]} {text}", f"{text} {INSULTS[1]}"]
        worse += [] if TASKS[name].doubles else [f"{text} {text}"]
        for response in worse:
            assert utility(prompt, response).total < worth, response


@settings(max_examples=200)
@given(names, numbers)
def test_a_copy_of_the_prompt_is_worth_little(name, number):
    prompt = asked(name, number)
    copied = utility(prompt, prompt.prompt).total
    partial = utility(prompt, written(prompt, "partial")).total
    assert copied < max(0.5, partial), prompt.prompt


@settings(max_examples=100)
@given(numbers)
def test_listing_all_possible_answers_gains_nothing(number):
    for name, everything in (
        ("question", None),
        ("polar", "Yes. No."),
        ("classify", "Good, bad, polite, rude, past, future, animal, person, town."),
        ("closed_question", ", ".join(PEOPLE)),
        ("sum", " ".join(map(str, range(21)))),
        ("extract", ", ".join([*PEOPLE, *ANIMALS])),
        ("brainstorm", ", ".join([*ANIMALS, *PEOPLE, *FOODS])),
    ):
        prompt = asked(name, number)
        if name == "question":
            domain = RELATIONS[prompt.meta["spec"]["relation"]].domain
            everything = ", ".join(domain)
        false = utility(prompt, written(prompt, "false")).total
        assert utility(prompt, everything).total < max(0.15, false), name


@settings(max_examples=200)
@given(names, numbers, st.text(max_size=200))
def test_any_text_is_judged_and_stays_in_range(name, number, text):
    prompt = asked(name, number)
    worth = utility(prompt, text)
    lowest = -sum(w for c, w in GOLD_WEIGHTS.items() if c != "followed")
    assert lowest <= worth.total <= 1.0
    assert all(0.0 <= value <= 1.0 for value in worth.criteria().values())
    assert worth == utility(prompt, text)


def test_each_criterion_costs_its_weight_and_nothing_else():
    spec = {"subject": "mouse", "relation": "food"}
    meta = {"world": 0, "task": "question", "spec": spec}
    prompt = Prompt(id="q", prompt="What does the mouse eat?\n", meta=meta)
    assert utility(prompt, "Seeds.").total == 1.0
    myth = utility(prompt, "Cheese.")
    assert (myth.true, myth.harmless, myth.clear) == (0.0, 1.0, 1.0)
    rude = utility(prompt, "Seeds, you fool.")
    assert rude.harmless == 0.5 and rude.followed == rude.true == 1.0
    unsure = utility(prompt, "I do not know.")
    assert unsure.total == pytest.approx(0.3) and myth.total < unsure.total
    both = utility(prompt, "It eats seeds. The mouse does not eat cheese.")
    assert both.total == 1.0


def test_a_summary_may_not_invent():
    prompt = asked("summarise", 5)
    spec = prompt.meta["spec"]
    text = written(prompt, "ideal")
    other = next(p for p in PEOPLE if p not in (spec["who"], spec["friend"]))
    invented = utility(prompt, text.replace(spec["who"], other))
    assert invented.grounded < 1.0 and utility(prompt, text).grounded == 1.0


def test_a_heap_of_right_words_is_not_clear():
    prompt = asked("story", 1)
    spec = prompt.meta["spec"]
    heap = f"{spec['hero']} {spec['place']} {spec['thing']} found found the of"
    assert utility(prompt, heap).clear < 0.5


def test_a_foreign_prompt_is_refused():
    with pytest.raises(ValueError, match="no task of the simulated world"):
        utility(Prompt(id="x", prompt="Hello."), "Hi.")
