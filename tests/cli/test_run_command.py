"""`rlhf-jax run`: what a person can mend is one message and exit code 2."""

import pathlib
import tempfile

import pytest

from rlhf_jax.cli import main

EXPERIMENTS = pathlib.Path(__file__).resolve().parents[2] / "experiments"
QUICKSTART = str(EXPERIMENTS / "quickstart.py")


def refused(capsys, *words):
    """What `run` says as it refuses."""
    assert main(["run", *map(str, words)]) == 2
    text = capsys.readouterr().err
    assert "Traceback" not in text and text.startswith("rlhf-jax run: ")
    return text.removeprefix("rlhf-jax run: ").strip()


def test_impossible_values_of_all_stages_are_told_by_the_dry_run(capsys):
    text = refused(
        capsys, QUICKSTART, "--dry-run", "--config.pretrain.steps=0",
        "--config.sft.layout=bucket", "--config.settings.mesh=fast",
        "--config.ppo.optimizer.b1=1.5",
    )  # fmt: skip
    assert text.startswith("the config has 4 problems:")
    assert "config.pretrain.steps: 0 is not at least 1" in text
    assert "config.sft.layout: 'bucket' is not 'padded', 'packed' or 'buckets'" in text
    assert "config.settings.mesh: 'fast'" in text
    assert "config.ppo.optimizer.b1: 1.5 is not in [0, 1)" in text


@pytest.mark.parametrize(
    ("source", "line", "said"),
    [
        ("def get_config(:\n    pass\n", 1, "SyntaxError: invalid syntax"),
        (
            "import os\nimport nosuchmodule\ndef get_config(): pass\n",
            2,
            "ModuleNotFoundError: No module named 'nosuchmodule'",
        ),
        ("def get_config():\n    return 1 + 'a'\n", 2, "TypeError: unsupported"),
        ("def get_config():\n    return open('/no/such')\n", 2, "FileNotFoundError"),
        ("def get_config():\n    return {}['key']\n", 2, "KeyError: 'key'"),
    ],
)
def test_a_file_that_fails_is_named_with_its_line(
    source, line, said, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    pathlib.Path("x.py").write_text(source)
    text = refused(capsys, "x.py", "--dry-run")
    assert text.startswith(f"x.py:{line}: {said}") and "\n" not in text


def test_an_error_in_a_file_beside_it_is_named_there(tmp_path, capsys):
    (tmp_path / "x.py").write_text("import beside_x\ndef get_config(): pass\n")
    (tmp_path / "beside_x.py").write_text("a = 1\nb = a.c\n")
    text = refused(capsys, tmp_path / "x.py", "--dry-run")
    assert text.startswith(f"{tmp_path / 'beside_x.py'}:2: AttributeError")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("x = 1\n", "has no get_config()"),
        ("def get_config(): pass\n", "get_config() returned NoneType, expected a Conf"),
        ("def get_config(): return {'stages': ()}\n", "get_config() returned dict"),
        ("def get_config(size): pass\n", "get_config() needs an argument, as in "),
    ],
)
def test_a_file_that_is_no_experiment_is_named_by_its_path(
    source, said, tmp_path, capsys
):
    file = tmp_path / "x.py"
    file.write_text(source)
    assert refused(capsys, file, "--dry-run").startswith(f"{file}: {said}")


def test_an_argument_that_is_not_taken_is_named(capsys):
    text = refused(capsys, f"{QUICKSTART}:foo", "--dry-run")
    assert text == f"{QUICKSTART}: get_config() takes no argument, got 'foo'"


def test_what_the_experiment_itself_refuses_is_said_in_its_words(capsys):
    text = refused(capsys, f"{EXPERIMENTS / 'rounds.py'}:abc", "--dry-run")
    assert text == "rounds: 'abc' is not a number of rounds"


def test_a_config_that_is_not_of_an_experiment_is_refused(tmp_path, capsys):
    file = tmp_path / "x.py"
    file.write_text(
        "from ml_collections import ConfigDict\n"
        "def get_config(): return ConfigDict({'name': 'x', 'stages': ()})\n"
    )
    assert "config.seed: missing" in refused(capsys, file, "--dry-run")


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--stages", ""], "--stages '': expected names separated by commas"),
        (["--stages", "sft,"], "--stages 'sft,': expected names"),
        (["--stages", "sft, nope"], "--stages nope: not in this experiment; there are"),
        (["--jobs", "0"], "--jobs 0: expected 1 or more"),
        (["--jobs", "-2"], "--jobs -2: expected 1 or more"),
    ],
)
def test_stages_and_jobs_are_checked_before_anything_runs(
    words, said, dry, tmp_path, capsys
):
    folder = tmp_path / "run"
    text = refused(capsys, QUICKSTART, "--workdir", folder, *dry, *words)
    assert text.startswith(said) and not folder.exists()


def test_spaces_after_the_commas_of_stages_are_allowed(capsys):
    words = ["--dry-run", "--stages", "world, pretrain ,sft"]
    assert main(["run", QUICKSTART, *words]) == 0
    assert "pretrain" in capsys.readouterr().out


def test_a_run_directory_that_is_a_file_is_refused(tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("mine")
    said = refused(capsys, QUICKSTART, "--workdir", file)
    assert said == f"{file}: is not a directory"
    said = refused(capsys, QUICKSTART, "--workdir", file / "below")
    assert said == f"{file / 'below'}: Not a directory"
    assert file.read_text() == "mine"


def test_a_run_directory_that_cannot_be_written_is_refused(
    tmp_path, capsys, monkeypatch
):
    def denied(**_):  # chmod stops no root
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", denied)
    said = refused(capsys, QUICKSTART, "--workdir", tmp_path)
    assert said == f"{tmp_path}: Permission denied"


def test_the_embedded_world_goes_into_no_file(tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("mine")
    for target, said in ((file, "is not a directory"), (file / "x", "Not a directory")):
        assert main(["simulate", str(target)]) == 2
        assert capsys.readouterr().err == f"rlhf-jax simulate: {target}: {said}\n"
    assert file.read_text() == "mine"


@pytest.mark.parametrize(
    "words",
    [["--scale", "nan"], ["--scale", "inf"], ["--scale", "-1"], ["--show", "-1"],
     ["--vocab-size", "0"], ["--vocab-size", "10"]],
)  # fmt: skip
def test_numbers_of_the_embedded_world_are_checked(words, tmp_path, capsys):
    assert main(["simulate", str(tmp_path / "new"), *words]) == 2
    assert f"{words[0]}: expected " in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
