"""The report over a set of records, and the command that prints it."""

import json

import pytest

from rlhf_jax.cli import main
from rlhf_jax.data import ByteTokenizer, Demonstration, Prompt, Ranking, Text
from rlhf_jax.data.display import shown_tokens, visible
from rlhf_jax.data.readers import read
from rlhf_jax.data.report import survey
from rlhf_jax.data.writers import write_jsonl

ROWS = [
    Ranking(id="1", prompt="Why is the sky blue?", responses=["a", "bb"], ranks=[1, 2]),
    Ranking(id="2", prompt="why is the sky  BLUE?", responses=["a", "b", "c"],
            ranks=[1, 1, 2], user="u"),
    Demonstration(id="3", prompt="Mail ann@example.org", response="Done.", user="u",
                  use_case="email"),
]  # fmt: skip


def test_the_survey_counts_ties_k_lengths_duplicates_and_personal_data():
    found = survey(ROWS, ByteTokenizer())
    assert found.records == 3 and dict(found.k) == {2: 1, 3: 1}
    assert found.tie_rate == 1 / 4
    assert found.counts["duplicates"]["prompts seen before"] == 1
    assert found.counts["personal data"]["email"] == 1
    assert found.counts["users"]["different"] == 1
    assert found.lengths["prompt"] == [20, 21, 20]
    assert found.lengths["response"] == [1, 2, 1, 1, 1, 5]
    assert found.errors == []


@pytest.fixture
def path(tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", ROWS)
    return tmp_path / "rows.jsonl"


def test_check_prints_the_report(path, capsys):
    assert main(["data", "check", str(path)]) == 0
    said = capsys.readouterr().out
    assert "rows: 3 read, 0 rejected; records: 3" in said
    assert "responses per prompt: K=2 1, K=3 1" in said and "tie rate: 0.2500" in said


def test_check_prints_json_for_programs(path, capsys):
    assert main(["data", "check", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["rows"] == 3 and found["tie_rate"] == 0.25
    assert found["lengths"]["prompt"]["max"] == 21


@pytest.mark.parametrize("to", ["jsonl", "csv"])
def test_convert_writes_what_read_gives_back(path, tmp_path, to):
    out = tmp_path / f"out.{to}"
    assert main(["data", "convert", str(path), str(out), "--to", to]) == 0
    assert list(read(out)) == ROWS


def test_convert_can_apply_the_papers_rules(path, tmp_path, capsys):
    out = tmp_path / "clean.jsonl"
    assert main(["data", "convert", str(path), str(out), "--clean"]) == 0
    said = capsys.readouterr().out
    assert "near-duplicates: 3 -> 3 (dropped 0)" in said  # other responses
    assert all(record.split for record in read(out))


def test_convert_drops_prompts_that_were_asked_before(tmp_path, capsys):
    path, out = tmp_path / "prompts.jsonl", tmp_path / "clean.jsonl"
    rows = [Prompt(id=row.id, prompt=row.prompt) for row in ROWS]
    write_jsonl(path, rows)
    assert main(["data", "convert", str(path), str(out), "--clean"]) == 0
    assert "near-duplicates: 3 -> 2 (dropped 1)" in capsys.readouterr().out
    assert [row.id for row in read(out)] == ["1"]  # the third holds an address


def test_show_tells_trained_tokens_from_given_ones(path, capsys):
    assert main(["data", "show", str(path), "2"]) == 0
    said = capsys.readouterr().out
    assert "D▏o▏n▏e▏.▏<|endoftext|>" in said and "26 tokens, 6 trained" in said
    assert main(["data", "show", str(path), "9"]) == 2
    assert "expected N below 3" in capsys.readouterr().err
    assert main(["data", "show", str(path), "-1"]) == 2


def test_the_styles_of_shown_tokens_follow_the_mask():
    text = shown_tokens(ROWS[2], ByteTokenizer())
    styles = [span.style for span in text.spans if span.style not in ("dim", "bold")]
    assert styles == ["black on green"] * 6
    ranked = shown_tokens(ROWS[1], ByteTokenizer())
    assert [s.style for s in ranked.spans].count("black on cyan") == 3
    for record in (Prompt(id="1", prompt="ab"), Text(id="2", text="ab")):
        assert "a▏b▏" in shown_tokens(record, ByteTokenizer()).plain


def test_control_characters_cannot_reach_the_terminal():
    assert visible("\x1b]0;x\x07\u202e") == "�]0;x��"


def test_an_unknown_tokenizer_is_an_input_error(path, capsys):
    assert main(["data", "check", str(path), "--tokenizer", "./none"]) == 2
    assert "expected a directory with tokenizer.json" in capsys.readouterr().err
