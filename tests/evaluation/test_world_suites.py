"""The suites of the embedded world on policies whose quality is known."""

import pytest
from stub_policies import stub

from rlhf_jax.errors import InputError
from rlhf_jax.evaluation.preference.win_rates import win_rate
from rlhf_jax.evaluation.statistics.tables import result_table
from rlhf_jax.evaluation.suites.catalogue import GROUPS, Settings
from rlhf_jax.evaluation.suites.runs import (
    judge_named,
    preference_results,
    run_suites,
    scorer_named,
)
from rlhf_jax.evaluation.suites.world import gold_utilities
from rlhf_jax.simulation import SKILLS, make_world, probes, simulate, skill_examples

SIZES = {"pretraining": 0, "skills": 0, "rankings": 0, "held_out_rankings": 0,
         "prompts": 0, "demonstrations": 60}  # fmt: skip


@pytest.fixture(scope="module")
def rows():
    """Prompts with what a good writer would answer."""
    return [
        r for r in simulate(0, SIZES)["demonstrations"] if r.meta["style"] == "ideal"
    ]


@pytest.fixture(scope="module")
def prompts(rows):
    from rlhf_jax.data.records import Prompt

    keep = set(Prompt.model_fields)
    return [Prompt(**r.model_dump(include=keep)) for r in rows]


@pytest.fixture(scope="module")
def knowing(rows):
    """A policy that knows every answer of the world's suites."""
    world = make_world(0)
    known = {r.prompt: r.response for r in rows}
    known |= {q.prompt.prompt: q.true[0] for q in probes.truth_questions(world)}
    for skill in SKILLS:
        known |= dict(skill_examples(world, skill, 100))
    return stub(
        lambda p: known.get(p, "is a good friend."),
        name="knowing",
        logprob=lambda p, c: 0.0 if known.get(p) == c else -9.0 - len(c),
    )


@pytest.fixture(scope="module")
def silly():
    return stub(lambda p: "You fool, I hate it.", name="silly")


@pytest.fixture(scope="module")
def table(knowing, silly, prompts):
    settings = Settings(prompts=prompts)
    results = run_suites([knowing, silly], GROUPS["world"], settings)
    return result_table("Alignment tax", results, baseline="knowing", num_resamples=100)


def test_knowing_beats_not_knowing_in_every_suite(table):
    for key in (
        ("gold", "utility", ""),
        ("truthfulqa", "true + informative", "world"),
        ("truthfulqa", "MC1", "world"),
        ("skill: arithmetic", "accuracy", ""),
        ("skill: copying", "accuracy", ""),
        ("skill: recall", "accuracy", ""),
        ("skill: recall", "logprob (nats/token)", ""),
    ):
        assert table.row(*key).verdict("silly") == "worse", key


def test_rude_words_are_found_and_polite_ones_are_not(table):
    row = table.row("toxicity", "toxicity", "basic")
    assert row.cells["silly"].estimate > 0.4
    assert row.cells["knowing"].estimate == 0.0
    assert row.verdict("silly") == "worse"


def test_every_skill_and_prefix_is_in_the_table(table):
    tasks = {row.task for row in table.rows}
    assert {f"skill: {s}" for s in SKILLS} <= tasks
    assert {r.condition for r in table.rows if r.task == "bias"} == {
        "basic",
        "respectful",
        "biased",
    }


def test_ideal_answers_invent_little(table):
    row = table.row("hallucination", "rate")
    assert row.cells["knowing"].estimate < 0.2


@pytest.mark.parametrize("judge", ["gold", "labelers"])
def test_the_better_policy_wins_by_either_judge(knowing, silly, prompts, judge):
    found = preference_results([knowing, silly], prompts, "silly", judge_named(judge))
    assert list(found) == ["knowing"]
    assert win_rate(found["knowing"]).low > 0.8


def test_an_answer_against_itself_is_a_tie(knowing, prompts):
    from rlhf_jax.evaluation.suites.world import world_preference

    texts = knowing.generate([p.prompt for p in prompts])
    assert win_rate(world_preference(prompts, texts, texts)).estimate == 0.5


def test_gold_utilities_rank_ideal_over_empty(rows, prompts):
    ideal = gold_utilities(prompts, [r.response for r in rows])
    assert (ideal > gold_utilities(prompts, [""] * len(rows))).all()


def test_names_of_judges_and_scorers(knowing, prompts):
    assert scorer_named("world")(["You fool.", "Thank you."])[1] == 0.0
    for bad in ("best", "http://x", "words"):
        with pytest.raises(InputError, match="--judge"):
            judge_named(bad)
        if bad == "best":
            with pytest.raises(InputError, match="--toxicity"):
                scorer_named(bad)
    with pytest.raises(InputError, match="preference needs --baseline"):
        preference_results([knowing], prompts, "sft", judge_named("gold"))


def test_no_closed_domain_prompt_is_told(knowing):
    from rlhf_jax.evaluation.suites.world import world_hallucination

    with pytest.raises(InputError, match="none of the prompts is closed-domain"):
        world_hallucination(knowing, [])
