"""The outputs released with the paper, scored by our code."""

import pytest

from rlhf_jax.errors import InputError
from rlhf_jax.evaluation.statistics.tables import result_table
from rlhf_jax.evaluation.suites.samples import PAPER_ORDER, score_samples

# mean Perspective toxicity per model in the paper's column order, from the file itself
TOXICITY = {
    "basic": ".212 .213 .199 .186 .196 .189 .197 .191 .199 .180 .215 .195",
    "respectful": ".171 .204 .195 .153 .158 .184 .154 .142 .178 .171 .198 .173",
    "biased": ".256 .227 .244 .194 .188 .239 .213 .317 .411 .260 .461 .329",
}
SQUAD_F1 = {  # computed by another implementation of the SQuAD script
    ("gpt-175b", "few-shot"): 67.8511,
    ("gpt-175b", "zero-shot"): 56.6835,
    ("gpt-6b", "few-shot"): 56.3778,
    ("gpt-6b", "zero-shot"): 56.1761,
    ("gpt-xl", "few-shot"): 53.6454,
    ("sft-175b", "few-shot"): 64.1,
    ("ppo-noptx-175b", "few-shot"): 48.0,
    ("ppo-ptx-175b", "few-shot"): 65.8,
    ("sft-175b", "zero-shot"): 53.4,
    ("ppo-noptx-175b", "zero-shot"): 40.7,
    ("ppo-ptx-175b", "zero-shot"): 53.1,
}


def test_toxicity_of_the_released_samples(shared_data):
    path = shared_data / "instructgpt_eval_samples/real_toxicity_samples.csv.gz"
    scores = score_samples(path, "toxicity")
    assert tuple(scores) == PAPER_ORDER
    table = result_table("toxicity", scores, num_resamples=50)
    for condition, anchors in TOXICITY.items():
        cells = table.row("toxicity", "toxicity", condition).cells
        for cell, anchor in zip(cells.values(), anchors.split(), strict=True):
            assert cell.estimate == pytest.approx(float(anchor), abs=6e-4)
            assert cell.num_items == 100


def test_f1_of_the_released_samples(shared_data):
    path = shared_data / "instructgpt_eval_samples/squadv2_samples.csv.gz"
    table = result_table("squad", score_samples(path, "squad"), num_resamples=50)
    for (model, condition), anchor in SQUAD_F1.items():
        found = table.row("squad", "F1", condition).cells[model].estimate
        tolerance = 1e-4 if round(anchor, 1) != anchor else 0.06
        assert found == pytest.approx(anchor, abs=tolerance)
    exact = table.row("squad", "exact match", "few-shot").cells
    assert exact["gpt-175b"].estimate == pytest.approx(63.0)


def test_the_papers_story_is_in_the_table(shared_data):
    """PPO loses SQuAD, ptx gives it back; told to be biased, PPO is the most toxic."""
    folder = shared_data / "instructgpt_eval_samples"
    squad = result_table(
        "squad",
        score_samples(folder / "squadv2_samples.csv.gz", "squad"),
        baseline="gpt-175b",
        num_resamples=500,
    ).row("squad", "F1", "few-shot")
    assert squad.verdict("ppo-noptx-175b") == "worse"
    assert squad.verdict("ppo-ptx-175b") == ""
    toxic = score_samples(folder / "real_toxicity_samples.csv.gz", "toxicity")
    biased = {name: s[4].interval().estimate for name, s in toxic.items()}
    assert biased["ppo-noptx-175b"] > 1.5 * biased["gpt-175b"]


def written(tmp_path, rows, header):
    path = tmp_path / "samples.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def test_a_limit_keeps_the_same_items_of_every_policy(tmp_path):
    header = "model_type,prompt_type,context,ref_text,sample"
    rows = [f"gpt-xl,zeroshot,c{n % 7},x,x" for n in range(8)]  # c0 comes twice
    rows += [f"sft-xl,zeroshot,c{n},x,x" for n in reversed(range(7))]
    path = written(tmp_path, rows, header)
    whole = score_samples(path, "squad", limit=8)
    assert [len(whole[p][0].items) for p in ("gpt-xl", "sft-xl")] == [8, 7]
    some = score_samples(path, "squad", limit=4, seed=3)
    kept = {policy: set(scores[0].items) for policy, scores in some.items()}
    assert len(kept["gpt-xl"]) == 4 and kept["sft-xl"] <= kept["gpt-xl"]
    assert len(kept["sft-xl"]) >= 3
    assert score_samples(path, "squad", limit=4, seed=3)["gpt-xl"][0].items == (
        some["gpt-xl"][0].items
    )


def test_other_tasks_come_out_of_the_same_door(tmp_path):
    header = "model_type,prompt_type,context,ref_text,sample"
    rows = ["gpt-xl,zeroshot,How many?,7761,7761.0", "gpt-xl,zeroshot,Who?,Ann|Bea,bea"]
    drop = score_samples(written(tmp_path, rows, header), "drop")["gpt-xl"]
    assert {s.metric: s.interval().estimate for s in drop} == {
        "F1": 100.0,
        "exact match": 100.0,
        "F1 as SQuAD counts": 50.0,
    }
    rows = [
        "gpt-xl,fewshot,French: Merci !,Thank you very much !,Thank you very much !"
    ]
    (bleu,) = score_samples(written(tmp_path, rows, header), "wmt")["gpt-xl"]
    assert bleu.interval().estimate == pytest.approx(100.0)
    header, rows = "model_type,context,ref_text,sample", ["m,post,a dog ran,a dog ran"]
    rouge, length = score_samples(written(tmp_path, rows, header), "tldr")["m"]
    assert rouge.interval().estimate == 1.0 and length.values.tolist() == [3.0]


def test_truthful_samples_are_counted_above_one_half(tmp_path):
    header = "model_type,prompt_type,adversarial,question,answer,true,info"
    rows = ["m,QA prompt,True,q1,a,0.9,0.2", "m,QA prompt,True,q2,a,0.8,0.7"]
    true, both = score_samples(written(tmp_path, rows, header), "truthfulqa")["m"]
    assert true.interval().estimate == 1.0 and both.interval().estimate == 0.5
    assert true.condition == "QA"


def test_an_empty_output_counts_as_an_empty_answer(tmp_path):
    header = "model_type,prompt_type,context,ref_text,sample"
    path = written(tmp_path, ["m,zeroshot,c,Paris,"], header)
    assert score_samples(path, "squad")["m"][0].values.tolist() == [0.0]


@pytest.mark.parametrize(
    ("header", "row", "told"),
    [
        (
            "model_type,prompt_type,context,sample",
            "m,b,c,s",
            "toxicity: no such column",
        ),
        (
            "model_type,context,sample,toxicity",
            "m,c,s,nan",
            "csv:2: toxicity: expected",
        ),
        (
            "model_type,context,sample,toxicity",
            "m,c,s,1.7",
            "csv:2: toxicity: expected",
        ),
        ("model_type,context,sample,toxicity", "m,c,s,", "csv:2: toxicity: expected"),
        (
            "model_type,context,sample,toxicity",
            ",c,s,0.5",
            "csv:2: model_type: is empty",
        ),
    ],
)
def test_bad_sample_files_are_told(tmp_path, header, row, told):
    with pytest.raises(InputError, match=told):
        score_samples(written(tmp_path, [row], header), "toxicity")


def test_an_unknown_suite_is_told(tmp_path):
    with pytest.raises(InputError, match="samples can be scored as squad"):
        score_samples(tmp_path / "x.csv", "hellaswag")
