"""TruthfulQA, RealToxicityPrompts and hallucination on policies with known answers."""

import json

import numpy as np
import pytest
from stub_policies import stub

from rlhf_jax.errors import InputError
from rlhf_jax.evaluation.suites.catalogue import Settings, run_suite
from rlhf_jax.evaluation.suites.hallucination import (
    hallucination_scores,
    labelled_hallucination,
)
from rlhf_jax.evaluation.suites.toxicity import (
    ToxicityPrompt,
    continuity_scorer,
    read_toxicity_prompts,
    toxicity_scores,
    uniform_in_toxicity,
    word_list_scorer,
)
from rlhf_jax.evaluation.suites.truthfulness import (
    generated_truthfulness,
    judge_by_references,
    read_truthfulqa,
)

CSV = (
    "Type,Category,Question,Best Answer,Correct Answers,Incorrect Answers,Source\n"
    "Adversarial,Myth,Can pigs fly?,Pigs cannot fly,Pigs cannot fly; They lack wings,"
    "Pigs can fly; Yes they fly,x\n"
    "Non-Adversarial,Myth,Is it flat?,It is round,It is round,It is flat,x\n"
)


def estimates(scores):
    return {s.metric: s.interval(num_resamples=20).estimate for s in scores}


def questions(tmp_path, text=CSV):
    path = tmp_path / "TruthfulQA.csv"
    path.write_text(text)
    return read_truthfulqa(path)


@pytest.mark.parametrize(
    ("answer", "true", "both"),
    [
        (" Pigs cannot fly. It is round.\nQ:", 1.0, 1.0),
        (" Yes they fly. It is flat", 0.0, 0.0),
        (" I have no comment.", 1.0, 0.0),
        ("", 1.0, 0.0),
    ],
)
def test_answers_are_judged_by_the_written_ones(tmp_path, answer, true, both):
    scores = generated_truthfulness(
        stub(lambda p: answer), questions(tmp_path), style="QA"
    )
    assert estimates(scores) == {"true": true, "true + informative": both}


def test_the_whole_suite_runs_with_multiple_choice(tmp_path):
    questions(tmp_path)
    truth = stub(str, logprob=lambda p, c: 0.0 if "not" in c or "round" in c else -3.0)
    scores = run_suite("truthfulqa", truth, Settings(data=tmp_path))
    assert len(scores) == 8
    found = estimates(scores[-2:])
    assert found["MC1"] == 1.0
    p, q = np.exp([0.0, -3.0])
    expected = ((p + q) / (p + 3 * q) + p / (p + q)) / 2
    assert found["MC2"] == pytest.approx(expected)


def test_a_judge_that_gives_no_probability_is_refused(tmp_path):
    judge = lambda qs, answers: (np.array([0.1, np.nan]), np.ones(2))  # noqa: E731
    with pytest.raises(InputError, match="says nan .true. about 'Is it flat"):
        generated_truthfulness(stub(str), questions(tmp_path), style="QA", judge=judge)


def test_a_question_without_false_answers_is_told(tmp_path):
    with pytest.raises(InputError, match="csv:2: Incorrect Answers: is empty"):
        questions(tmp_path, CSV.replace("Pigs can fly; Yes they fly", ""))


def test_declining_is_true_and_not_informative(tmp_path):
    some = questions(tmp_path)
    true, informative = judge_by_references(some, ["I have no comment.", "It is round"])
    assert true.tolist() == [1.0, 1.0] and informative.tolist() == [0.0, 1.0]


def rude(texts):
    return np.array([0.9 if "fool" in text else 0.1 for text in texts])


def test_toxicity_under_an_instruction():
    policy = stub(lambda p: " you fool\nx" if "offensive" in p else " my friend")
    prompts = [ToxicityPrompt("I say,", 0.1), ToxicityPrompt("He is", 0.6)]
    found = {
        c: estimates(toxicity_scores(policy, prompts, rude, condition=c))["toxicity"]
        for c in ("basic", "respectful", "biased")
    }
    assert found == pytest.approx({"basic": 0.1, "respectful": 0.1, "biased": 0.9})


def test_expected_maximum_over_samples():
    policy = stub(lambda p: "x")
    policy = policy.__class__(
        "p",
        policy.generate,
        policy.logprobs,
        sample=lambda ps, seed: [
            "fool" if (i + seed) % 4 == 0 else "ok" for i in range(len(ps))
        ],
    )
    prompts = [ToxicityPrompt(str(i)) for i in range(4)]
    scores = toxicity_scores(policy, prompts, rude, condition="basic", num_samples=2)
    found = estimates(scores)
    assert found["any toxic of 2"] == 0.5
    assert found["expected maximum of 2"] == pytest.approx(0.5)


def test_an_empty_continuation_is_not_toxic_and_not_continuous():
    policy = stub(lambda p: "" if "a" in p else "fine")
    scores = toxicity_scores(
        policy,
        [ToxicityPrompt("a"), ToxicityPrompt("b"), ToxicityPrompt("cc")],
        lambda texts: np.full(len(texts), 0.3),
        condition="basic",
        continuity=continuity_scorer(
            stub(str, logprob=lambda p, c: -float(len(p) * len(c)))
        ),
    )
    assert scores[0].values.tolist() == [0.0, 0.3, 0.3]
    assert scores[1].values.tolist() == [-2.0, -1.0, -2.0]


@pytest.mark.parametrize("value", [np.nan, -0.1, 1.1])
def test_a_toxicity_outside_its_range_is_refused(value):
    scorer = lambda texts: np.full(len(texts), value)  # noqa: E731
    with pytest.raises(InputError, match="the toxicity of 'hm' is"):
        toxicity_scores(
            stub(lambda p: "hm"), [ToxicityPrompt("p")], scorer, condition="basic"
        )


def test_prompts_are_drawn_uniformly_in_toxicity():
    rng = np.random.default_rng(0)
    prompts = [ToxicityPrompt(str(i), v**4) for i, v in enumerate(rng.random(5000))]
    drawn = uniform_in_toxicity(prompts, 500)
    counts = np.histogram([p.toxicity for p in drawn], 10, (0, 1))[0]
    assert counts.tolist() == [50] * 10
    assert drawn == uniform_in_toxicity(prompts, 500)
    assert len(uniform_in_toxicity(prompts[:7], 500)) == 7


def test_published_toxicity_prompts_are_read(tmp_path):
    path = tmp_path / "prompts.jsonl"
    rows = [{"prompt": {"text": "He is", "toxicity": 0.2}, "continuation": {}},
            {"prompt": {"text": "She is", "toxicity": None}}]  # fmt: skip
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert read_toxicity_prompts(path) == [
        ToxicityPrompt("He is", 0.2),
        ToxicityPrompt("She is", None),
    ]
    settings = Settings(data=path, toxicity=rude)
    assert len(run_suite("toxicity", stub(str), settings)) == 3
    path.write_text('{"prompt": {"text": "x", "toxicity": 3}}\n')
    with pytest.raises(InputError, match="jsonl:1: toxicity: expected 0 to 1"):
        read_toxicity_prompts(path)


def test_a_word_list_scores(tmp_path):
    path = tmp_path / "words.tsv"
    path.write_text("# rude\nfool\t0.5\nidiot\n")
    score = word_list_scorer(path)
    assert score(["You fool, FOOL!", "foolish", "an idiot"]).tolist() == [
        0.75,
        0.0,
        1.0,
    ]
    path.write_text("fool\t2\n")
    with pytest.raises(InputError, match="words.tsv:1: weight"):
        word_list_scorer(path)


def test_hallucination_by_detector_and_by_labels(tmp_path):
    (score,) = hallucination_scores(
        stub(lambda p: p[::-1]), ["ab", "aa"], lambda p, r: float(p != r)
    )
    assert score.values.tolist() == [1.0, 0.0] and score.higher_is_better is False
    path = tmp_path / "labels.csv"
    path.write_text("policy,prompt,hallucination\ngpt,p,1\ngpt,p,0\nppo,p,false\n")
    found = labelled_hallucination(path)
    assert list(found) == ["gpt", "ppo"]
    assert found["gpt"][0].interval().num_clusters == 1
    path.write_text("policy,prompt,hallucination\ngpt,p,maybe\n")
    with pytest.raises(InputError, match="csv:2: hallucination: expected one of"):
        labelled_hallucination(path)
