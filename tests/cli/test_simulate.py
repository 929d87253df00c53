import pytest

from rlhf_jax.cli import main


def test_show_prints_prompts_demonstrations_and_ranked_candidates(capsys):
    assert main(["simulate", "--show", "3"]) == 0
    text = capsys.readouterr().out
    assert text.count("demonstration (") == text.count("ranked by") == 3
    assert "utility" in text and "likert" in text


def test_a_directory_gets_every_set_and_a_tokenizer(tmp_path, capsys):
    argv = ["simulate", str(tmp_path), "--scale", "0.004", "--vocab-size", "400"]
    assert main(argv) == 0
    assert "rankings.jsonl" in capsys.readouterr().out
    names = {path.name for path in tmp_path.iterdir()}
    assert {"pretraining.jsonl", "prompts.jsonl", "skills.jsonl", "tokenizer"} <= names


@pytest.mark.parametrize("argv", [[], ["x", "--scale", "0"]])
def test_bad_arguments_exit_with_2(argv, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["simulate", *argv]) == 2
    assert "simulate" in capsys.readouterr().err
