"""Candidates and best-of-n: what is sampled, who chooses, and what it is worth."""

import dataclasses
import json
import pathlib
import types

import numpy as np
import pytest

from rlhf_jax.data import ByteTokenizer, Prompt, Ranking
from rlhf_jax.data.conversations import PlainForm
from rlhf_jax.data.inputs import encode_prompts, fitting, read_prompts
from rlhf_jax.data.readers import read
from rlhf_jax.errors import InputError
from rlhf_jax.faults import injected
from rlhf_jax.losses import best_of_n_kl
from rlhf_jax.registry import as_reward
from rlhf_jax.stages import candidates


def rankings_of(folder):
    return list(read(folder / "rankings.jsonl", "jsonl"))


def test_every_prompt_gets_its_number_of_candidates_and_a_labeler(tiny):
    config = tiny.config("candidates")
    found = rankings_of(tiny.done("candidates"))
    form = tiny.model("pretrain").form
    prompts = fitting(read_prompts(config.prompts), form, config.max_prompt)
    assert [row.id for row in found] == [prompt.id for prompt in prompts]
    counts = [len(row.responses) for row in found]
    assert min(counts) >= config.min_k and max(counts) <= config.max_k
    assert len(set(counts)) > 1
    assert len({row.labeler for row in found}) > 1
    assert all(min(row.ranks) == 1 for row in found)
    responses = [text for row in found for text in row.responses]
    assert len(set(responses)) > len(responses) / 2  # each has its own randomness


@pytest.fixture
def written(monkeypatch):
    """Sampling takes seconds and is tested above: here the texts are given."""
    prompts = [Prompt(id=str(i), prompt=f"p{i}") for i in range(2)]
    monkeypatch.setattr(candidates, "read_prompts", lambda files, account: prompts)
    monkeypatch.setattr(
        candidates, "sample_candidates", lambda *_: [["a", "b"], ["c", "d"]]
    )
    policy = types.SimpleNamespace(form=PlainForm(ByteTokenizer()))
    monkeypatch.setattr(candidates, "_policy", lambda name, prompts, options: policy)
    return prompts


def test_people_find_what_waits_for_them_and_the_stage_goes_on_after(written, tmp_path):
    file = tmp_path / "people.jsonl"
    config = candidates.Config(("p",), ("q",), labelers=f"file:{file}", max_k=4)
    with pytest.raises(InputError, match="2 sets of responses wait for people"):
        candidates.run(config, tmp_path / "run")
    assert not (tmp_path / "run/rankings.jsonl").exists()
    waiting = [json.loads(line) for line in open(f"{file}.todo.jsonl")]
    assert [row["responses"] for row in waiting] == [["a", "b"], ["c", "d"]]
    # people may keep the responses in another order
    ranked = [
        Ranking(id="0", prompt="p0", responses=["b", "a"], ranks=[1, 2]),
        Ranking(id="1", prompt="p1", responses=["c", "d"], ranks=[1, 1]),
    ]
    file.write_text("".join(row.model_dump_json() + "\n" for row in ranked))
    candidates.run(config, tmp_path / "run")
    found = rankings_of(tmp_path / "run")
    assert [row.ranks for row in found] == [[2, 1], [1, 1]]
    assert {row.labeler for row in found} == {"people"}


def test_people_answer_what_they_were_asked_however_it_would_be_sampled_now(
    written, tmp_path, monkeypatch
):
    file = tmp_path / "people.jsonl"
    config = candidates.Config(("p",), ("q",), labelers=f"file:{file}", max_k=4)
    with pytest.raises(InputError, match="wait for people"):
        candidates.run(config, tmp_path / "run")
    todo = pathlib.Path(f"{file}.todo.jsonl")
    asked = [json.loads(line) for line in todo.open()]
    todo.write_text("".join(json.dumps({**r, "ranks": [1, 2]}) + "\n" for r in asked))
    with pytest.raises(InputError, match=r"todo.jsonl:1: has ranks; move"):
        candidates.run(config, tmp_path / "run")
    todo.rename(file)
    monkeypatch.setattr(
        candidates, "sample_candidates", lambda *_: [["other", "texts"]] * 2
    )
    candidates.run(config, tmp_path / "run")
    found = rankings_of(tmp_path / "run")
    assert [row.responses for row in found] == [["a", "b"], ["c", "d"]]
    # those of another policy are others
    other = dataclasses.replace(config, policies=("p2",), labelers="simulated:training")
    asked_again = []

    def rank(prompts, responses, labelers, seeds):
        asked_again.extend(responses)
        return []

    monkeypatch.setattr(candidates, "rank_candidates", rank)
    candidates.run(other, tmp_path / "run")
    assert asked_again == [["other", "texts"]] * 2


def test_a_run_cut_before_the_file_has_its_name_leaves_no_half_file(written, tmp_path):
    file = tmp_path / "people.jsonl"
    ranked = [
        Ranking(id="0", prompt="p0", responses=["a", "b"], ranks=[1, 2]),
        Ranking(id="1", prompt="p1", responses=["c", "d"], ranks=[2, 1]),
    ]
    file.write_text("".join(row.model_dump_json() + "\n" for row in ranked))
    config = candidates.Config(("p",), ("q",), max_k=4, labelers=f"file:{file}")
    with injected("candidates.before_rename:1:raise"), pytest.raises(RuntimeError):
        candidates.run(config, tmp_path)
    assert not (tmp_path / "rankings.jsonl").exists()
    candidates.run(config, tmp_path)
    assert len(rankings_of(tmp_path)) == 2


def test_best_of_n_chooses_the_best_and_knows_its_kl(tiny):
    folder, config = tiny.done("best_of_n"), tiny.config("best_of_n")
    points = json.loads((folder / "best_of_n.json").read_text())["points"]
    counts = [int(point["name"].split("=")[-1].split()[-1]) for point in points]
    assert counts[0] == 1 and counts[-1] == config.samples
    for n, point in zip(counts, points, strict=True):
        assert point["kl"] == pytest.approx(float(best_of_n_kl(n)), abs=1e-6)
    proxy = [point["proxy"] for point in points]
    assert proxy == sorted(proxy)
    rows = [json.loads(line) for line in (folder / "samples.jsonl").open()]
    reward = as_reward(
        tiny.model("fresh_reward"),
        max_prompt=config.max_prompt,
        max_response=config.max_response,
    )
    scores = reward.score(
        [row["prompt"] for row in rows], [row["best"] for row in rows]
    )
    written = [row["score"] for row in rows]
    np.testing.assert_allclose(scores, written, rtol=1e-4, atol=1e-4)
    assert np.mean(written) == pytest.approx(proxy[-1], rel=1e-4)


def test_a_prompt_that_is_too_long_loses_its_beginning(tiny):
    tokenizer = tiny.model("pretrain").tokenizer
    whole = tokenizer.encode("one two three four five six seven")
    batch = encode_prompts(["one two three four five six seven", ""], tokenizer, 4)
    assert batch["prompts"][0].tolist() == whole[-4:]
    # an empty prompt is read as the end of an earlier text
    assert batch["valid"].sum(axis=1).tolist() == [4, 1]
