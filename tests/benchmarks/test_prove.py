"""`make prove`: verdicts of its rows, and one part of it as a user runs it."""

import json
import pathlib
import subprocess
import sys

import pytest

BENCHMARKS = pathlib.Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def rows(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from proofs import rows

    return rows


@pytest.mark.parametrize(
    ("value", "fields", "verdict"),
    [
        (0.5, {"limit": 1.0}, "held"),
        (1.5, {"limit": 1.0}, "wrong"),
        (0.5, {"limit": 1.0, "side": "least"}, "wrong"),
        (0.5, {"limit": 1.0, "side": "least", "goal": True}, "missed"),
        (float("nan"), {"limit": 1.0}, "wrong"),
        (float("inf"), {"limit": 1.0, "side": "least"}, "wrong"),
        (2.0, {}, "told"),
        (None, {"limit": 1.0}, "left out"),
    ],
)
def test_a_row_is_held_to_its_limit(rows, value, fields, verdict):
    row = rows.Row("proof", "case", value, **fields)
    assert row.verdict == row.record()["verdict"] == verdict
    assert verdict in rows.table([row])


@pytest.mark.slow
def test_the_guards_are_proven_on_this_machine(tmp_path):
    out = tmp_path / "prove.json"
    words = [sys.executable, BENCHMARKS / "prove.py", "--only", "guards", "--out", out]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(out.read_text())
    assert {row["verdict"] for row in told["rows"]} == {"held"}
    assert told["machine"]["devices"] >= 1


def test_a_part_that_fails_is_a_row_that_says_so(tmp_path):
    out = tmp_path / "prove.json"
    words = [sys.executable, BENCHMARKS / "prove.py", "--only", "guards", "--out", out]
    done = subprocess.run([*words, "--budget", "0.1"], capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    (row,) = json.loads(out.read_text())["rows"]
    assert row["verdict"] == "wrong" and "not done after" in row["note"]
