"""The embedded world's labelers, over HTTP: agreement, and a reward model's data."""

import itertools
import json

import pytest
from studies import batch_of, server
from worlds import world_sets

from rlhf_jax.cli import main
from rlhf_jax.data import read
from rlhf_jax.data.records import Prompt
from rlhf_jax.feedback import pairwise_agreement
from rlhf_jax.labelling.exchange import collect
from rlhf_jax.labelling.serving import running
from rlhf_jax.labelling.simulate import simulate
from rlhf_jax.labelling.statistics import live_table
from rlhf_jax.labelling.store import open_store
from rlhf_jax.simulation import held_out_labelers, training_labelers


def answered_directly(row, labelers):
    """The ranks that the named person gives to what they were shown, without HTTP."""
    person = labelers[row["labeler"]]
    fields = {k: v for k, v in row.items() if k in Prompt.model_fields}
    prompt = Prompt.model_validate(fields)
    shown = [row["responses"][index] for index in row["shown_order"]]
    by_text = dict(zip(shown, person.rank(prompt, shown), strict=True))
    return [by_text[text] for text in row["responses"]]


def test_simulated_people_answer_as_they_would_directly(study):
    batch_of(study, world_sets(6), overlap=2)
    with running(server(study)) as address:
        assert simulate(study, address, "training", count=3) == 12
    labelers = {person.name: person for person in training_labelers(count=3)}
    rows = collect(study, "b")
    assert len(rows) == 12
    for row in rows:
        assert row["ranks"] == answered_directly(row, labelers)


def test_the_command_imports_simulates_exports_and_verifies(tmp_path, capsys):
    path = tmp_path / "candidates.jsonl"
    rows = [r.model_dump(mode="json", exclude_defaults=True) for r in world_sets(3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    study, out = str(tmp_path / "study"), str(tmp_path / "out.jsonl")
    common = ["--repeat-rate", "0", "--gold-rate", "0"]
    assert main(["label", study, "--import", str(path), *common]) == 0
    assert main(["label", study, "--simulate", "training", "--count", "2"]) == 0
    assert main(["label", study, "--export", out]) == 0
    assert main(["label", study, "--verify"]) == 0
    assert main(["label", study, "--backup", str(tmp_path / "copy.db")]) == 0
    assert len(list(read(out))) == 3
    assert "3 answers by 2 simulated persons" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nowhere", "--export", "x"], "no such study"),
        (["nowhere", "--verify"], "no such study"),
        (["s", "--import", "absent.jsonl"], "no such file"),
        (["s", "--host", "0.0.0.0"], "--allow-remote"),
        (["s", "--invite", "a", "--group", "x"], "expected one of train, held-out"),
        (["mysql://x", "--verify"], "expected a directory, a file or postgresql"),
    ],
)
def test_the_command_tells_what_it_cannot_do(
    tmp_path, monkeypatch, capsys, words, told
):
    monkeypatch.chdir(tmp_path)
    assert main(["label", *words]) == 2
    assert told in capsys.readouterr().err


def test_an_invitation_prints_its_token_once(tmp_path, capsys):
    study = str(tmp_path / "study")
    assert main(["label", study, "--invite", "ann", "bob", "--qualify"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["ann", "bob"]
    assert main(["label", study, "--invite", "ann"]) == 2


@pytest.mark.slow
def test_forty_people_finish_two_thousand_rankings(tmp_path):
    """Each answer, and so the agreement, is that of the same people asked directly."""
    study = open_store(tmp_path / "study")
    sets = world_sets(1000)  # no prompt twice: a person knows a prompt by its text
    batch_of(study, sets[:700], overlap=2, name="train", repeat_rate=0.02)
    batch_of(study, sets[700:], overlap=2, name="held", people="held-out")
    with running(server(study)) as address:
        train = simulate(study, address, "training", count=24)
        held = simulate(study, address, "held_out", count=16)
    assert train >= 1400 and held == 600
    assert study.verify() == []
    people = (training_labelers(count=24), held_out_labelers(count=16))
    labelers = {person.name: person for person in itertools.chain(*people)}
    groups = {row["group"]: row["agreement"] for row in live_table(study)["groups"]}
    # groups of 12 and 8 agree as in the paper (test_labelers.py), larger ones less
    for batch, group in (("train", "train"), ("held", "held-out")):
        rows = collect(study, batch)
        for row in rows:
            assert row["ranks"] == answered_directly(row, labelers)
        found = groups[group]
        direct = pairwise_agreement(_rankings(rows))["agreement"]
        assert found["estimate"] == pytest.approx(direct)
        print(group, found)
    study.close()


def _rankings(rows):
    from rlhf_jax.data import Ranking

    return [Ranking.model_validate(row) for row in rows]
