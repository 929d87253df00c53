"""`rlhf-jax eval`: tables from files, and mistakes told with exit code 2."""

import json

import pytest

from rlhf_jax.cli import main

HEADER = "model_type,prompt_type,context,ref_text,sample\n"


def samples(tmp_path, rows):
    path = tmp_path / "samples.csv"
    path.write_text(HEADER + "".join(f"{row}\n" for row in rows))
    return str(path)


def test_samples_become_a_table_and_a_folder(tmp_path, capsys):
    rows = [
        f"{model},fewshot,c{n},Paris,{'Paris' if n % 2 or model == 'gpt-xl' else 'x'}"
        for model in ("ppo-ptx-xl", "gpt-xl")
        for n in range(10)
    ]
    out = tmp_path / "out"
    words = ["eval", "--samples", samples(tmp_path, rows), "--suite", "squad"]
    assert main([*words, "--baseline", "gpt-xl", "--out", str(out)]) == 0
    assert "100.0" in capsys.readouterr().out
    document = json.loads((out / "results.json").read_text())
    assert document["policies"] == ["gpt-xl", "ppo-ptx-xl"]
    difference = document["rows"][0]["differences"]["ppo-ptx-xl"]
    assert difference["estimate"] == -50.0 and difference["high"] < 0
    assert (out / "report.html").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--suite", "squad"], "CHECKPOINT: missing"),
        ([], "--suite: missing"),
        (["x", "--suite", "sqaud"], "did you mean 'squad'"),
        (["--samples", "none.csv", "--suite", "squad"], "none.csv: No such file"),
        (
            ["--samples", "a", "--suite", "squad", "--suite", "drop"],
            "takes one --suite",
        ),
        (["x", "--suite", "squad", "--limit", "0"], "--limit: 0 is too small"),
        (["x", "--suite", "reward-model"], "reward-model needs --data"),
        (["x", "--suite", "preference", "--judge", "me"], "--judge 'me'"),
        (["x", "--suite", "toxicity", "--toxicity", "me"], "--toxicity 'me'"),
        (["a/x", "b/x", "--suite", "bias"], "two checkpoints of this name"),
        (["x", "--suite", "rewardmodel"], "did you mean 'reward-model'"),
        (["x", "--suite", "squad", "--suite", "labels"], "'labels' runs alone"),
    ],
)
def test_mistakes_exit_with_2_and_say_what_to_do(words, told, capsys):
    assert main(["eval", *words]) == 2
    captured = capsys.readouterr().err
    assert told in captured and "Traceback" not in captured


def test_a_bad_row_is_told_with_its_line(tmp_path, capsys):
    path = samples(tmp_path, ["gpt-xl,fewshot,c,Paris,Paris", "gpt-xl,fewshot,c,Paris"])
    assert main(["eval", "--samples", path, "--suite", "squad"]) == 2
    assert "samples.csv:3: 4 cells where the header has 5" in capsys.readouterr().err


def test_the_suites_are_listed(capsys):
    assert main(["eval", "--list"]) == 0
    text = capsys.readouterr().out
    assert "winogender" in text and "world-skills" in text and "reward-model" in text


def test_an_unknown_suite_is_answered_with_all_that_are_listed(capsys):
    from rlhf_jax.cli.eval import _ALONE
    from rlhf_jax.evaluation.suites.catalogue import GROUPS, SUITES

    assert main(["eval", "--list"]) == 0
    listed = capsys.readouterr().out
    assert main(["eval", "x", "--suite", "nope"]) == 2
    told = capsys.readouterr().err.split("there are ")[1].strip(" )\n").split(", ")
    assert told == [*SUITES, *GROUPS, *_ALONE]
    assert all(name in listed for name in told)


@pytest.mark.parametrize("below", ["", "deeper/out"])
def test_an_out_that_is_a_file_is_refused_before_anything_is_read(
    tmp_path, capsys, below
):
    file = tmp_path / "out"
    file.write_text("kept")
    words = ["eval", "--samples", "none.csv", "--suite", "squad"]
    assert main([*words, "--out", str(file / below)]) == 2
    assert f"{file} is a file, expected a folder" in capsys.readouterr().err
    assert file.read_text() == "kept"


def test_the_limit_keeps_so_many_samples(tmp_path):
    rows = [f"gpt-xl,fewshot,c{n},Paris,Paris" for n in range(10)]
    words = ["eval", "--samples", samples(tmp_path, rows), "--suite", "squad"]
    out = tmp_path / "out"
    assert main([*words, "--limit", "3", "--out", str(out)]) == 0
    items = [json.loads(line) for line in (out / "items.jsonl").open()]
    assert len({item["item"] for item in items}) == 3


def test_points_of_a_run_become_fits_and_a_plot(tmp_path, capsys):
    path = tmp_path / "points.csv"
    rows = [f"ppo,{d * d},{d},{d * (2 - 0.5 * d)}" for d in (0.5, 1.0, 2.0, 3.0)]
    text = "\n".join(
        ["run,kl,proxy,gold", *rows, *[r.replace("ppo", "best") for r in rows]]
    )
    path.write_text(text + "\n")
    words = ["eval", "--suite", "overoptimization", "--data", str(path)]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    assert "best-of-n" in capsys.readouterr().out
    assert "<svg" in (tmp_path / "out" / "report.html").read_text()


def test_labels_of_people_become_tables(tmp_path, capsys):
    path = tmp_path / "labels.csv"
    path.write_text("policy,prompt,hallucination\ngpt,p,1\ngpt,q,0\nppo,p,0\nppo,q,0\n")
    assert main(["eval", "--suite", "hallucination", "--data", str(path)]) == 0
    assert "0.500" in capsys.readouterr().out
    rankings = tmp_path / "rankings.jsonl"
    row = {
        "id": "r",
        "prompt": "p",
        "responses": ["a", "b"],
        "ranks": [1, 2],
        "likert": [6, 3],
        "meta": {"policies": ["ppo", "sft"]},
    }
    rankings.write_text(json.dumps(row) + "\n")
    words = ["eval", "--suite", "labels", "--data", str(rankings), "--baseline", "sft"]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "6.000" in out and "100.0" in out


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Two tiny policies and a tiny reward model, saved as users save theirs."""
    import functools

    import jax

    from rlhf_jax.data import ByteTokenizer
    from rlhf_jax.models import (
        LanguageModel,
        ScalarModel,
        TrunkConfig,
        init_params,
        save_pretrained,
    )

    folder = tmp_path_factory.mktemp("checkpoints")
    config = TrunkConfig(
        vocab_size=258, context_length=512, embed_dim=16, num_layers=1, num_heads=2
    )
    for seed, (name, kind) in enumerate(
        [("gpt", LanguageModel), ("ppo", LanguageModel), ("rm", ScalarModel)]
    ):
        fresh = jax.jit(functools.partial(init_params, kind(config)))
        params = fresh(jax.random.key(seed))
        save_pretrained(folder / name, config, params, ByteTokenizer())
    return folder


def test_checkpoints_are_compared_by_a_reward_model(checkpoints, tmp_path, capsys):
    prompts = tmp_path / "prompts.jsonl"
    rows = [{"id": str(n), "prompt": f"prompt {n}"} for n in range(6)]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["eval", str(checkpoints / "gpt"), f"new={checkpoints / 'ppo'}"]
    words += ["--suite", "preference", "--baseline", "gpt", "--max-new-tokens", "8"]
    words += ["--judge", f"reward:{checkpoints / 'rm'}", "--prompts", str(prompts)]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    assert "both orders agree" in capsys.readouterr().out
    document = json.loads((tmp_path / "out/results.json").read_text())
    assert document["policies"] == ["new"] and document["rows"][0]["cells"]["new"]


def test_a_reward_model_is_judged_on_rankings(checkpoints, tmp_path, capsys):
    path = tmp_path / "rankings.jsonl"
    row = {
        "id": "r",
        "prompt": "p",
        "responses": ["a", "bb", "c c"],
        "ranks": [1, 2, 3],
    }
    path.write_text(json.dumps(row) + "\n")
    rm = str(checkpoints / "rm")
    assert main(["eval", rm, "--suite", "reward-model", "--data", str(path)]) == 0
    assert "accuracy %" in capsys.readouterr().out
    assert main(["eval", rm, "--suite", "world-truth"]) == 2
    assert "expected a language model" in capsys.readouterr().err


def rankings_file(tmp_path):
    path = tmp_path / "rankings.jsonl"
    rows = [
        {"id": str(n), "prompt": f"p{n}", "responses": ["a", "bb"], "ranks": [1, 2]}
        for n in range(4)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_policies_of_a_run_are_read_from_stages_and_models(
    run_directory, tmp_path, capsys
):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"id": "0", "prompt": "hello"}\n')
    words = ["eval", str(run_directory / "sft"), f"new={run_directory / 'ppo/model'}"]
    words += ["--suite", "preference", "--baseline", "sft", "--max-new-tokens", "4"]
    words += ["--judge", f"reward:{run_directory / 'reward'}"]
    assert main([*words, "--prompts", str(prompts)]) == 0
    assert "both orders agree" in capsys.readouterr().out


def test_reward_models_and_ensembles_of_a_run_are_judged(
    run_directory, tmp_path, capsys
):
    single = run_directory / "reward/seed_0"
    words = ["eval", str(single), f"model={single / 'model'}"]
    words += [f"stage={run_directory / 'reward'}"]
    words += [f"ensemble={run_directory / 'reward/model'}"]
    words += ["--suite", "reward-model", "--data", rankings_file(tmp_path)]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    document = json.loads((tmp_path / "out/results.json").read_text())
    assert document["policies"] == ["seed_0", "model", "stage", "ensemble"]
    losses = document["rows"][-1]["cells"]
    assert losses["seed_0"] == losses["model"]
    assert losses["stage"] == losses["ensemble"] != losses["seed_0"]


@pytest.mark.parametrize(
    ("place", "suite", "told"),
    [
        ("sft", "reward-model", "holds a language model, expected a reward model"),
        (
            "reward/seed_0",
            "world-truth",
            "holds a reward model, expected a language model",
        ),
        ("reward", "world-truth", "holds an ensemble of reward models"),
        ("world", "world-truth", "a stage without a model"),
    ],
)
def test_a_model_of_another_kind_is_refused(
    run_directory, tmp_path, capsys, place, suite, told
):
    words = ["--suite", suite, "--data", rankings_file(tmp_path)]
    assert main(["eval", str(run_directory / place), *words]) == 2
    assert told in capsys.readouterr().err


def test_an_ensemble_scores_the_mean_of_its_members(run_directory):
    import numpy as np

    from rlhf_jax.registry import load_reward

    texts = ["p", "a longer prompt"], ["yes", "no, not at all"]
    whole, *members = [
        load_reward(run_directory / place).score(*texts)
        for place in ("reward", "reward/seed_0", "reward/seed_1")
    ]
    np.testing.assert_allclose(whole, np.mean(members, axis=0), atol=1e-6)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--suite", "world-bias", "--suite", "squad"], "squad: "),
        (["--suite", "world-bias", "--baseline", "stf"], "stf: not one of sft, ppo"),
        (["--suite", "preference", "--baseline", "stf"], "'stf': expected one of sft"),
        (["--suite", "world-bias", "--out", "/proc/nowhere"], "--out /proc/nowhere: "),
    ],
)
def test_what_cannot_be_evaluated_is_told_before_a_model_is_read(
    run_directory, capsys, monkeypatch, words, message
):
    def load_policy(*args, **options):
        raise AssertionError("a model was read")

    monkeypatch.setattr("rlhf_jax.evaluation.policy.load_policy", load_policy)
    paths = [str(run_directory / name) for name in ("sft", "ppo")]
    assert main(["eval", *paths, *words]) == 2
    assert message in capsys.readouterr().err


def test_suites_that_are_finished_are_kept(run_directory, tmp_path, monkeypatch):
    from rlhf_jax.evaluation.suites import runs

    whole, done = runs.run_suite, []

    def run_suite(name, policy, settings):
        if done and policy.name != "nobody":
            raise KeyboardInterrupt
        found = whole(name, policy, settings)
        done.append(name)
        return found

    monkeypatch.setattr(runs, "run_suite", run_suite)
    words = ["eval", str(run_directory / "sft"), "--limit", "2", "--out", str(tmp_path)]
    code = main([*words, "--suite", "world-bias", "--suite", "world-truth"])
    assert code == 130 and done == ["world-bias"]
    lines = (tmp_path / "items.jsonl").read_text().splitlines()
    assert {json.loads(line)["policy"] for line in lines} == {"sft"}


def test_a_checkpoint_whose_path_looks_like_syntax(tmp_path):
    from rlhf_jax.evaluation.suites.runs import named_checkpoints

    odd = tmp_path / "a=b[1]:#c"
    odd.mkdir()
    assert named_checkpoints([str(odd)]) == {"a=b[1]:#c": str(odd)}
    assert named_checkpoints([f"x={odd}"]) == {"x": str(odd)}
