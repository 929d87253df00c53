"""The pipeline's side: a run stops until people have ranked, and takes every row."""

import json
import types

import pytest
import sqlalchemy as sa
from studies import person, ranked, rows_of, server

from rlhf_jax.data import Prompt
from rlhf_jax.data.readers import read
from rlhf_jax.errors import InputError
from rlhf_jax.feedback import Asked, load_labelers
from rlhf_jax.labelling import schema
from rlhf_jax.labelling.access import add_person
from rlhf_jax.labelling.answering import submit
from rlhf_jax.labelling.assignment import claim
from rlhf_jax.labelling.exchange import TOKEN, publish
from rlhf_jax.labelling.serving import running
from rlhf_jax.labelling.store import open_store
from rlhf_jax.stages import candidates

PROMPTS = [Prompt(id=str(n), prompt=f"p{n}", user=f"u{n}") for n in range(2)]
TEXTS = [["a", "b", "a"], ["c", "d"]]


def answer_all(store, names=("ann", "bob")):
    """Each person ranks all that they get, first shown best."""
    for name in names:
        who = person(store, name)
        while (number := claim(store, who)) is not None:
            token = f"token-of-task-{number:06d}"
            submit(store, who, number, token=token, content=ranked(2))


def require(where, **asked):
    (people,) = load_labelers(f"label:{where}")
    people.require(PROMPTS, TEXTS, Asked(**asked))
    return [people.rankings(p, t) for p, t in zip(PROMPTS, TEXTS, strict=True)]


def test_sets_wait_until_everybody_has_ranked(place):
    for _ in range(2):  # published once
        with pytest.raises(InputError, match="2 of 2 sets of responses wait"):
            require(place, overlap=2)
    store = open_store(place)
    assert len(rows_of(store, sa.select(schema.items))) == 2
    answer_all(store, ["ann"])
    with pytest.raises(InputError, match="2 of 2 sets"):
        require(place, overlap=2)
    answer_all(store, ["bob"])
    store.close()
    first, second = require(place, overlap=2)
    assert [(row.id, row.labeler) for row in first] == [("0", "ann"), ("0#2", "bob")]
    assert first[0].responses == ["a", "b", "a"]
    assert first[0].ranks[0] == first[0].ranks[2]
    assert first[0].likert == [4, 4, 4] and first[0].guideline == "training@1"
    assert {row.user for row in second} == {"u1"}


def test_a_quorum_or_a_deadline_lets_a_run_go_on(study, clock, tmp_path, caplog):
    where = tmp_path / "study"
    with pytest.raises(InputError, match="wait for people"):
        require(where)
    who = person(study)
    submit(study, who, claim(study, who), token="0123456789abcdef", content=ranked(2))
    with pytest.raises(InputError, match="1 of 2 sets"):
        require(where, quorum=0.6)
    assert [len(rows) for rows in require(where, quorum=0.5)] == [1, 0]
    assert "1 sets have fewer than 1 rankings" in caplog.text
    batches = schema.batches
    with study.write() as connection:
        connection.execute(batches.update().values(created_at=0.0))
    assert [len(rows) for rows in require(where, deadline_hours=1.0)] == [1, 0]


def test_a_deadline_without_any_answer_still_waits(study, tmp_path):
    with pytest.raises(InputError, match="2 of 2 sets"):
        require(tmp_path / "study", deadline_hours=1e-9)


def test_a_server_elsewhere_is_asked_with_a_researcher_s_token(study, monkeypatch):
    with running(server(study)) as address:
        monkeypatch.delenv(TOKEN, raising=False)
        with pytest.raises(InputError, match=f"set {TOKEN}"):
            require(address)
        monkeypatch.setenv(TOKEN, add_person(study, "eve")[1])
        with pytest.raises(InputError, match="403"):
            require(address)
        monkeypatch.setenv(TOKEN, add_person(study, "boss", role="researcher")[1])
        with pytest.raises(InputError, match="2 of 2 sets"):
            require(address, overlap=2)
        answer_all(study)
        assert [len(rows) for rows in require(address, overlap=2)] == [2, 2]
    with pytest.raises(InputError, match="no labelling server answers"):
        require(address)


def test_what_is_published_is_checked_by_field(study):
    with pytest.raises(InputError, match=r"rows: responses"):
        publish(study, {"name": "x"}, [{"id": "1", "prompt": "p"}])
    with pytest.raises(InputError, match="batch: .*colour"):
        publish(study, {"name": "x", "colour": 1}, [])


def test_the_candidates_stage_takes_every_person_s_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(candidates, "read_prompts", lambda files, account: PROMPTS)
    monkeypatch.setattr(candidates, "sample_candidates", lambda *a: TEXTS)
    policy = types.SimpleNamespace(form=None)
    monkeypatch.setattr(candidates, "_policy", lambda *a: policy)
    monkeypatch.setattr(candidates, "fitting", lambda prompts, *a: prompts)
    where = tmp_path / "study"
    config = candidates.Config(
        ("p",), ("q",), labelers=f"label:{where}", min_k=2, max_k=4, overlap=2
    )
    assert list(config.problems()) == []
    with pytest.raises(InputError, match="wait for people"):
        candidates.run(config, tmp_path / "run")
    kept = (tmp_path / "run/candidates.jsonl").read_bytes()
    store = open_store(where)
    answer_all(store)
    store.close()
    candidates.run(config, tmp_path / "run")
    rows = list(read(tmp_path / "run/rankings.jsonl", "jsonl"))
    assert len(rows) == 4 and {row.labeler for row in rows} == {"ann", "bob"}
    assert (tmp_path / "run/candidates.jsonl").read_bytes() == kept
    lines = (tmp_path / "run/rankings.jsonl").read_text().splitlines()
    assert len({json.loads(line)["id"] for line in lines}) == 4


@pytest.mark.parametrize(
    ("change", "told"),
    [({"quorum": 1.5}, "quorum"), ({"quorum": 0.0}, "quorum"), ({"overlap": 0}, "over"),
     ({"deadline_hours": -1.0}, "deadline_hours")],
)  # fmt: skip
def test_settings_that_cannot_work_are_told(change, told):
    config = candidates.Config(("p",), ("q",), **change)
    assert any(line.startswith(told) for line in config.problems())
