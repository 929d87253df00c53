"""A few of the attacks; all of them are `make attack`."""

import pathlib
import subprocess
import sys

import hostile_models
import hostile_rows
import pytest
from outcomes import BAD, Outcomes

HERE = pathlib.Path(__file__).resolve().parent


def test_a_table_tells_what_was_withstood_and_what_was_not():
    outcomes = Outcomes()
    outcomes.add("flip", "again")
    outcomes.add("flip", "SILENT", "sft/model/model.json")
    outcomes.skip("full disk", "no root")
    lines = list(outcomes.lines())
    assert lines[1].split()[:3] == ["flip", "2", "1"]
    assert "skipped: no root" in lines[2] and "sft/model/model.json" in lines[3]


@pytest.mark.parametrize("start", range(0, 300, 100))
def test_hostile_rows_are_read_or_refused(tmp_path, start):
    work = hostile_rows.make(str(tmp_path))
    for number in range(start, start + 100):
        about, act = work(number, 0)
        outcome, more = act()
        assert outcome not in BAD, f"{about}: {more}"


def test_hostile_models_are_read_or_refused(tmp_path):
    work = hostile_models.make(str(tmp_path), warm=False)
    for number in range(16):
        about, act = work(number, 1)
        outcome, more = act()
        assert outcome not in BAD, f"{about}: {more}"


@pytest.mark.attack
@pytest.mark.parametrize("kind", ["damage", "models", "rows", "kill", "disk", "people"])
def test_the_whole_withstands(kind):
    words = [sys.executable, str(HERE), "--quick", "--only", kind]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
