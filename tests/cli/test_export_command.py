"""`rlhf-jax export` of what `rlhf-jax run` writes."""

import json

import numpy as np

from rlhf_jax.cli import main
from rlhf_jax.models import load_pretrained
from rlhf_jax.registry import load_model


def exported(capsys, *words) -> tuple[int, str, str]:
    code = main(["export", *map(str, words)])
    return code, *capsys.readouterr()


def test_a_stage_is_exported_and_checked(run_directory, tmp_path, capsys):
    out = tmp_path / "out"
    code, said, _ = exported(capsys, run_directory / "sft", out, "--check")
    assert code == 0
    assert "read again: largest difference 0.0e+00" in said and "MiB" in said
    found, kept = load_pretrained(out), load_model(run_directory / "sft/model")
    for name in ("embedding",):
        table = found.params["trunk"]["token_embed"][name]
        assert np.array_equal(table, kept.params["trunk"]["token_embed"][name])


def test_the_dtype_and_the_family_are_obeyed(run_directory, tmp_path, capsys):
    words = (run_directory / "reward/seed_0", tmp_path / "out", "--dtype", "bfloat16")
    assert exported(capsys, *words, "--family", "gpt2")[0] == 0
    about = json.loads((tmp_path / "out/config.json").read_text())
    assert about["dtype"] == "bfloat16" and about["model_type"] == "gpt2"
    assert about["architectures"] == ["GPT2ForSequenceClassification"]
    again = tmp_path / "again"
    code, said, _ = exported(capsys, tmp_path / "out", again, "--check")
    assert code == 0 and "rounded: largest difference 0.0e+00" in said


def test_what_cannot_be_exported_is_one_clear_line(run_directory, tmp_path, capsys):
    for words, why in (
        ((run_directory / "world", tmp_path / "o"), "a stage without a model"),
        ((run_directory / "reward", tmp_path / "o"), "an ensemble of reward models"),
        (
            (run_directory / "sft/model", run_directory / "sft/model"),
            "another directory",
        ),
        (
            (run_directory / "sft", tmp_path / "o", "--family", "qwen2"),
            "written as qwen2",
        ),
    ):
        code, _, error = exported(capsys, *words)
        assert code == 2 and why in error and len(error.splitlines()) == 1
