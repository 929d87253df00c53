"""`rlhf-jax report` where there is nothing that it could report."""

import json

import pytest

from rlhf_jax.cli import main


def reported(capsys, folder) -> tuple[int, str]:
    code = main(["report", str(folder)])
    return code, capsys.readouterr().err


def stage(workdir, name):
    """The directory of a stage that ran."""
    folder = workdir / name
    folder.mkdir()
    (folder / "stage.json").write_text("{}")
    return folder


def test_what_no_stage_wrote_is_left_alone(tmp_path, capsys):
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "results.json").write_text('{"policies": []}')
    code, err = reported(capsys, tmp_path)
    assert code == 2 and "no evaluate stage has finished here" in err


def test_a_directory_that_is_not_there_is_told(tmp_path, capsys):
    code, err = reported(capsys, tmp_path / "none")
    assert code == 2 and f"{tmp_path / 'none'}: no such directory" in err


def test_a_run_without_results_is_told(tmp_path, capsys):
    code, err = reported(capsys, tmp_path)
    assert code == 2 and "no evaluate stage has finished here" in err


@pytest.mark.parametrize(
    "content",
    [
        b'{"names": ["s',
        b"",
        b"\xff\xfe",
        b"[]",
        b'{"report": "weather"}',
        b'{"policies": ["gpt"], "rows": []}',
        b'{"names": 3, "preference": {}, "baseline": "x"}',
        b'{"report": "judge", "names": ["gpt"]}',
        b'{"report": "baselines", "accuracy": []}',
    ],
)
def test_damaged_and_foreign_results_are_one_line_with_the_file(
    tmp_path, capsys, content
):
    path = stage(tmp_path, "report") / "results.json"
    path.write_bytes(content)
    code, err = reported(capsys, tmp_path)
    assert code == 2 and err.startswith(f"rlhf-jax report: {path}: expected")
    assert err.count("\n") == 1


def test_the_other_reports_are_written_all_the_same(tmp_path, capsys):
    for name in ("a", "b"):
        stage(tmp_path, name)
    (tmp_path / "a" / "results.json").write_text("{")
    cell = {"estimate": 0.6, "low": 0.5, "high": 0.7, "items": 9}
    found = {
        "pairs": 9,
        "accuracy": {"reward model": cell},
        "lead": {"chance": cell},
        "verdict": {"chance": "beats"},
    }
    results = {"report": "baselines", "accuracy": {"all": found}, "stages": {}}
    (tmp_path / "b" / "results.json").write_text(json.dumps(results | {"runs": {}}))
    code, err = reported(capsys, tmp_path)
    assert code == 2 and "a/results.json" in err and "b/results.json" not in err
    assert "<svg" in (tmp_path / "b.html").read_text()
