"""`rlhf-jax inspect` on what `rlhf-jax run` writes."""

import json
import shutil

import pytest

from rlhf_jax.cli import main


def inspected(capsys, *words) -> tuple[int, str, str]:
    code = main(["inspect", *map(str, words)])
    return code, *capsys.readouterr()


@pytest.mark.parametrize("place", ["sft/model", "sft"])
def test_a_model_directory_and_its_stage_show_the_same_leaves(
    run_directory, capsys, place
):
    code, out, _ = inspected(capsys, run_directory / place)
    assert code == 0
    assert "sft, lm, TrunkConfig(" in out and "[258, 16]" in out
    assert "parameters" in out.splitlines()[-1]


def test_the_dtype_is_obeyed_and_reading_finds_the_numbers(run_directory, capsys):
    words = (run_directory / "sft", "--dtype", "bfloat16", "--read")
    code, out, _ = inspected(capsys, *words)
    assert code == 0 and "bfloat16  4,128" in out


def test_reading_refuses_damaged_numbers(run_directory, tmp_path, capsys):
    copy = shutil.copytree(run_directory / "sft", tmp_path / "sft")
    for path in (copy / "model/params/1/d").iterdir():
        path.write_bytes(b"x")
    assert inspected(capsys, copy)[0] == 0
    assert inspected(capsys, copy, "--read")[0] == 4


@pytest.mark.parametrize("place", ["reward", "reward/model"])
def test_an_ensemble_shows_one_member_and_how_many(run_directory, capsys, place):
    code, out, _ = inspected(capsys, run_directory / place)
    assert code == 0
    assert "ensemble of 2, scalar" in out and "in each of 2 members" in out


def test_what_holds_no_model_is_one_clear_line(run_directory, tmp_path, capsys):
    code, _, err = inspected(capsys, run_directory / "world")
    assert code == 2 and "world: the directory of a stage without a model" in err
    code, _, err = inspected(capsys, tmp_path)
    assert code == 2 and "neither model.json nor config.json" in err
    (tmp_path / "model.json").write_text(json.dumps({"kind": "lm"}))
    code, _, err = inspected(capsys, tmp_path)
    assert code == 2 and "model.json: not a model description" in err


def test_a_transformers_directory_shows_its_family(run_directory, tmp_path, capsys):
    from rlhf_jax.models import save_pretrained
    from rlhf_jax.registry.directories import load_model

    loaded = load_model(run_directory / "sft/model")
    config = loaded.model.config
    save_pretrained(tmp_path, config, loaded.params, loaded.tokenizer)
    code, out, _ = inspected(capsys, tmp_path, "--read")
    assert code == 0 and "gpt2, lm, TrunkConfig(" in out
