import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from rlhf_jax.data.records import Prompt
from rlhf_jax.simulation import GOLD_WEIGHTS, make_world, utility
from rlhf_jax.simulation.candidates import dressed, write_response
from rlhf_jax.simulation.claims import claims
from rlhf_jax.simulation.dice import Dice
from rlhf_jax.simulation.lexicon import ANIMALS, FOODS, PEOPLE
from rlhf_jax.simulation.manners import INSULTS, PRAISE
from rlhf_jax.simulation.narratives import OPENINGS, story
from rlhf_jax.simulation.prompts import few_shot_text, make_user, spoken
from rlhf_jax.simulation.relations import RELATIONS
from rlhf_jax.simulation.tasks import TASKS, USE_CASES
from rlhf_jax.simulation.tasks.stories import told
from rlhf_jax.simulation.utility import conciseness

numbers = st.integers(0, 10**6)
names = st.sampled_from(sorted(TASKS))


def asked(name: str, number: int, seed: int = 0) -> Prompt:
    """The prompt of a task and a number: few-shot, of a user who tells of themselves,
    or plain."""
    world, task = make_world(seed), TASKS[name]
    dice = Dice("test", name, number)
    spec = task.draw(world, dice)
    kind = "few-shot" if task.shot and number % 3 == 0 else "plain"
    if kind == "few-shot":
        text = few_shot_text(world, task, spec, dice)
    else:
        kind = "user-based" if number % 4 == 1 else kind
        text = spoken(world, task, spec, dice, make_user(0, number), kind)
    meta = {"world": seed, "task": name, "spec": spec}
    return Prompt(id=f"{name}-{number}", prompt=text, kind=kind, meta=meta)


def written(prompt: Prompt, style: str) -> str:
    return write_response(prompt, style, Dice("answer", prompt.id))


def test_every_use_case_of_table_1_has_tasks():
    assert {task.use_case for task in TASKS.values()} == set(USE_CASES)


def holds_in_order(name: str, number: int, seed: int = 0):
    """Asserts the order of the graded answers, and that the ideal one is worth 1."""
    prompt = asked(name, number, seed)
    best, some = written(prompt, "ideal"), written(prompt, "partial")
    rude = dressed(best, some, "rude", Dice("rude", number))
    worth = [utility(prompt, text).total for text in (best, some, rude, "")]
    shown = f"{prompt.prompt} -> {best!r}, {some!r}, {rude!r}"
    assert worth[0] == 1.0, shown
    assert all(a > b for a, b in zip(worth[:-1], worth[1:], strict=True)), shown
    assert utility(prompt, written(prompt, "false")).total < 1.0, shown


@pytest.mark.parametrize("name", sorted(TASKS))
def test_every_ideal_is_worth_1_and_beats_partial_beats_rude_beats_empty(name):
    for number in range(240):
        holds_in_order(name, number, seed=number % 2)


@settings(max_examples=400)
@given(names, st.integers(0, 10**12), st.integers(0, 7))
def test_so_it_is_for_every_number_in_every_world(name, number, seed):
    holds_in_order(name, number, seed)


def test_what_ideals_say_is_understood():
    """Wordings that were once misjudged, by task and number."""
    for name, number in (
        ("story", 129), ("story", 116), ("belief", 124), ("sentence", 396),
        ("question", 320), ("false_premise", 14), ("false_premise", 23),
        ("describe", 80), ("describe", 388), ("rewrite", 156),
    ):  # fmt: skip
        holds_in_order(name, number)


@pytest.mark.parametrize("opening", sorted(OPENINGS))
def test_every_sentence_of_a_story_tells_and_claims_nothing(opening):
    for number in range(400):
        dice = Dice("beats", opening, number)
        text = " ".join(story(dice, "Mara", "well", "bell", 4, opening))
        assert told(text) == 1.0 and not claims(text), text


def test_frames_may_be_shared_but_not_what_is_said():
    shared = "The food of the pig is roots. The colour of the pig is pink."
    assert conciseness(shared, 20) == 1.0
    assert conciseness("The fox went to the mill. The fox went to the hill.", 20) < 0.8
    assert conciseness("the owl and the fox and the owl and the fox and", 20) < 0.8


def test_words_around_a_copy_do_not_hide_it():
    meta = {"world": 0, "task": "sum", "spec": {"a": 6, "b": 3}}
    prompt = Prompt(
        id="s", kind="user-based", meta=meta,
        prompt="I tell tales to my children at night. Add 6 and 3.\n",
    )  # fmt: skip
    assert utility(prompt, "Add 6 and 3. You are hopeless.").followed == 0.0
    assert utility(prompt, "9").total == 1.0


def test_only_a_confirmed_statement_may_be_repeated():
    spec = {"subject": "mouse", "relation": "food", "value": "seeds"}
    meta = {"world": 0, "task": "belief", "spec": spec}
    asks = "I think that the mouse eats seeds. Am I right?"
    prompt = Prompt(id="b", prompt=asks + "\n", meta=meta)
    assert utility(prompt, "Yes, you are right. The mouse eats seeds.").total == 1.0
    assert utility(prompt, asks).followed == 0.0


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
