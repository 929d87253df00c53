"""The reward model: its loss, its ties, its bias, and how good it says it is."""

import dataclasses
import functools
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax import data
from rlhf_jax.data import ByteTokenizer, Demonstration, Ranking
from rlhf_jax.data.inputs import (
    mixed_demonstrations,
    numeric,
    one_epoch,
    read_rows,
)
from rlhf_jax.errors import InputError
from rlhf_jax.losses import normalize, ranking_accuracy
from rlhf_jax.models import ScalarModel, TrunkConfig, init_params
from rlhf_jax.registry import as_reward
from rlhf_jax.registry.directories import load_model
from rlhf_jax.stages import reward
from rlhf_jax.stages.reward import ranking_report, ranking_scores

MODEL = ScalarModel(TrunkConfig(23, 16, 16, 2, 2))
ROWS, K, PROMPT, RESPONSE = 3, 4, 6, 5
RANKS = np.array([[1, 2, 2, 4], [3, 1, 2, 1], [2, 2, 2, 2]])  # the last all tied
PRESENT = np.array([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 1]], bool)


@pytest.fixture(scope="module")
def params():
    params = jax.jit(lambda: init_params(MODEL, jax.random.key(0)))()
    return jax.tree.map(lambda leaf: leaf * 3.0, params)


def batch_of(rows=slice(None)):
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, RESPONSE + 1, (ROWS, K))
    prompts = np.array([6, 2, 4])
    batch = {
        "prompts": rng.integers(0, 23, (ROWS, PROMPT)).astype(np.int32),
        "prompt_valid": np.arange(PROMPT) >= PROMPT - prompts[:, None],
        "responses": rng.integers(0, 23, (ROWS, K, RESPONSE)).astype(np.int32),
        "response_valid": (np.arange(RESPONSE) < lengths[..., None])
        & PRESENT[..., None],
        "ranks": RANKS.astype(np.int32),
        "present": PRESENT,
        "mask": np.array([True, True, False]),
    }
    batch = {name: jnp.asarray(value)[rows] for name, value in batch.items()}
    return batch | {"weights": normalize(batch["mask"])}


def pair_by_pair(params, batch):
    """Each untied pair as two sequences of its own, prompt and all, unpadded."""
    host = jax.device_get({n: v for n, v in batch.items() if n != "weights"})

    @functools.cache
    def score(i, k):
        prompt = host["prompts"][i][host["prompt_valid"][i]]
        response = host["responses"][i, k][host["response_valid"][i, k]]
        tokens = jnp.asarray(np.concatenate([prompt, response]))[None]
        return MODEL.apply({"params": params}, tokens)[0, -1]

    prompts = []
    for i in np.flatnonzero(host["mask"]):
        pairs = [
            (a, b)
            for a, b in itertools.permutations(np.flatnonzero(host["present"][i]), 2)
            if host["ranks"][i, a] < host["ranks"][i, b]
        ]
        losses = [-jax.nn.log_sigmoid(score(i, a) - score(i, b)) for a, b in pairs]
        prompts.append(sum(losses) / len(losses))
    return sum(prompts) / len(prompts)


def shared(params, batch):
    return reward.make_loss(MODEL)(params, batch, jax.random.key(0))[0]


def test_sharing_the_prompt_changes_neither_loss_nor_gradient(params):
    batch = batch_of()
    host = jax.device_get(batch)
    one, a = jax.jit(jax.value_and_grad(shared))(params, batch)
    apart = jax.jit(jax.value_and_grad(lambda params: pair_by_pair(params, host)))
    two, b = apart(params)
    np.testing.assert_allclose(one, two, rtol=1e-5)
    scale = max(float(abs(leaf).max()) for leaf in jax.tree.leaves(b))
    for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-5 * scale, rtol=1e-4)


def test_a_prompt_whose_responses_all_tie_changes_nothing(params):
    gradient = jax.jit(jax.value_and_grad(shared))
    loss, with_tied = gradient(params, batch_of())
    alone, without = gradient(params, batch_of(slice(0, 2)))
    np.testing.assert_allclose(loss, alone, rtol=1e-6)
    for x, y in zip(*map(jax.tree.leaves, (with_tied, without)), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-6, rtol=1e-4)
    nothing, zero = gradient(params, batch_of(slice(2, 3)))
    assert nothing == 0.0
    assert all(not leaf.any() for leaf in jax.tree.leaves(zero))


def test_the_order_of_the_responses_does_not_matter(params):
    batch = batch_of()
    turned = dict(batch)
    for name in ("responses", "response_valid", "ranks", "present"):
        turned[name] = batch[name][:, ::-1]
    loss = jax.jit(shared)
    np.testing.assert_allclose(loss(params, batch), loss(params, turned), rtol=1e-5)


def test_packed_responses_have_the_loss_and_gradient_of_padded_ones(params):
    batch = batch_of()
    flat = batch["response_valid"].reshape(ROWS, -1)
    order = jnp.argsort(~flat, axis=1, stable=True)
    moved = [
        jnp.take_along_axis(x, order, axis=1)
        for x in (
            batch["responses"].reshape(ROWS, -1),
            flat,
            jnp.broadcast_to(jnp.repeat(jnp.arange(K), RESPONSE), flat.shape),
        )
    ]
    width = batch["prompts"].shape[1]
    before = batch["prompts"], batch["prompt_valid"], jnp.zeros_like(batch["prompts"])
    names = "tokens", "valid", "segments"
    together = {name: batch[name] for name in ("ranks", "present", "mask", "weights")}
    together |= {
        name: jnp.concatenate(both, axis=1)
        for name, *both in zip(names, before, moved, strict=True)
    }
    together["common"] = jnp.broadcast_to(
        jnp.arange(width + flat.shape[1]) < width, together["valid"].shape
    )
    lengths = batch["response_valid"].sum(-1)
    together["ends"] = width + jnp.cumsum(lengths, axis=1) - 1
    there = np.asarray(PRESENT)
    loss = jax.jit(jax.value_and_grad(shared))
    (one, padded), (two, packed) = loss(params, batch), loss(params, together)
    np.testing.assert_allclose(one, two, rtol=1e-5)
    for x, y in zip(*map(jax.tree.leaves, (padded, packed)), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-5, rtol=1e-4)  # gradients reach 15
    scores = jax.jit(lambda p, b: ranking_scores(MODEL, p, b))
    both = [np.asarray(scores(params, b))[there] for b in (batch, together)]
    np.testing.assert_allclose(*both, atol=1e-5)


def test_a_stream_of_rankings_in_one_row_has_the_scores_of_a_padded_one():
    tokenizer = ByteTokenizer()
    model = ScalarModel(TrunkConfig(tokenizer.vocab_size, 32, 16, 1, 2))
    # large enough that a prompt unseen or a position too early shows
    params = jax.tree.map(lambda x: 10 * x, init_params(model, jax.random.key(0)))
    rankings = [
        Ranking(id=str(i), prompt="p" * (3 * i + 1), responses=said, ranks=ranks)
        for i, (said, ranks) in enumerate(
            [(["a", "bcd", "ef"], [1, 2, 2]), (["gh", "i"], [2, 1])]
        )
    ]
    found = []
    for packed in (None, ()):
        stream = data.ranking_stream(
            rankings,
            tokenizer,
            batch_size=2,
            max_prompt=8,
            max_response=5,
            packed=packed,
        )
        batch = stream.batch(0)
        order = np.argsort(batch["row"])
        scores = ranking_scores(model, params, numeric(batch))[order]
        present = batch["present"][order]
        found.append((present, np.where(present, scores, 0.0)))
    assert found[0][0].sum() == 5
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_allclose(found[0][1], found[1][1], atol=1e-3, rtol=1e-4)


def test_the_bias_does_not_move_the_loss_and_moves_every_score(params):
    batch = batch_of()
    head = dict(params["head"], bias=params["head"]["bias"] + 5.0)
    moved = dict(params, head=head)
    loss = jax.jit(shared)
    np.testing.assert_allclose(loss(params, batch), loss(moved, batch), rtol=1e-4)
    scores = jax.jit(lambda p: ranking_scores(MODEL, p, batch))
    there = np.asarray(batch["present"])
    gap = np.asarray(scores(moved) - scores(params))[there]
    np.testing.assert_allclose(gap, 5.0, atol=1e-4)


def test_accuracy_counts_the_untied_pairs_of_each_prompt():
    scores = jnp.array([[4.0, 3.0, 2.0, 1.0], [0.0, 1.0, 2.0, 9.0], [1.0, 2.0, 3.0, 4]])
    found = ranking_accuracy(scores, jnp.asarray(RANKS), jnp.asarray(PRESENT))
    # first: all of 1>2, 1>3, 1>4, 2>4, 3>4; second: 2>1 and 3>1 right, 2>3 wrong
    np.testing.assert_allclose(found, [1.0, 2 / 3, 0.0], rtol=1e-6)


def test_the_report_is_that_of_a_person_counting():
    def judge(prompts, responses):
        return np.array([float(len(text)) for text in responses])

    rankings = [
        Ranking(id="1", prompt="p", responses=["aaa", "aa", "a"], ranks=[1, 2, 3]),
        Ranking(id="2", prompt="q", responses=["b", "bbbb"], ranks=[1, 2]),
    ]
    report = ranking_report(judge, rankings)
    assert report["pairs"] == 4
    assert report["accuracy"] == pytest.approx(3 / 4)
    assert report["accuracy_low"] <= 3 / 4 <= report["accuracy_high"]
    assert report["by_rank_gap"] == {"1": pytest.approx(2 / 3), "2": 1.0}
    margins = np.array([1.0, 1.0, 2.0, -3.0])
    assert report["loss"] == pytest.approx(np.log1p(np.exp(-margins)).mean(), rel=1e-5)


def test_demonstrations_score_zero_on_average_after_training(tiny):
    model = load_model(tiny.done("reward") / "model")
    config = tiny.config("reward")
    stream = mixed_demonstrations(
        list(read_rows(config.demonstrations, Demonstration)),
        [],
        model.tokenizer,
        max_prompt=config.max_prompt,
        max_response=config.max_response,
        batch_size=config.batch_size,
        seed=0,
    )
    scores, value = [], jax.jit(model.model.apply)
    for batch in one_epoch(stream):
        values = value({"params": model.params}, batch["tokens"], batch["valid"])
        for row, valid, mask in zip(values, batch["valid"], batch["mask"], strict=True):
            if mask.any():
                scores.append(float(row[np.flatnonzero(valid)[-1]]))
    assert abs(np.mean(scores)) < 1e-4
    assert np.std(scores) > 1e-3
    assert (
        model.meta["bias"]
        == json.loads((tiny.done("reward") / "report.json").read_text())["bias"]
    )


def test_learned_positions_must_hold_prompt_and_response(tiny, tmp_path):
    config = dataclasses.replace(tiny.config("reward"), max_response=17)
    with pytest.raises(InputError, match="is 65, expected at most 64"):
        reward.run(config, tmp_path)


def test_training_reads_each_ranking_once_per_epoch(tiny):
    config = tiny.config("reward")
    tokenizer = tiny.model("pretrain").tokenizer
    stream = data.ranking_stream(
        read_rows(config.rankings, Ranking),
        tokenizer,
        max_prompt=config.max_prompt,
        max_response=config.max_response,
        max_k=config.max_k,
        batch_size=config.batch_size,
        seed=config.seed,
    )
    for epoch in range(2):
        steps = range(
            epoch * stream.steps_per_epoch, (epoch + 1) * stream.steps_per_epoch
        )
        rows = np.concatenate([stream.batch(step)["row"] for step in steps])
        assert sorted(rows[rows >= 0].tolist()) == list(range(len(stream)))
    assert len(tiny.metrics("reward")) == config.epochs * stream.steps_per_epoch


def test_training_learns_its_rankings(tiny):
    rows = tiny.metrics("reward")
    assert np.mean([row["accuracy"] for row in rows[-4:]]) > 0.6
    assert np.mean([row["loss"] for row in rows[-4:]]) < rows[0]["loss"]


def test_the_text_reward_is_the_score_of_each_text_alone(tiny):
    model = tiny.model("pretrain")
    from rlhf_jax.registry.loaded import reward_from

    judge = reward_from(model, jax.random.key(1))
    prompts, responses = ["Who?\n", "Name the mill.\n", "x"], ["Ann.", "", "Yes it is"]
    score = as_reward(judge, max_prompt=40, max_response=12, batch_size=2).score
    found = score(prompts, responses)
    tokenizer = model.tokenizer
    for prompt, response, value in zip(prompts, responses, found, strict=True):
        begin = [] if tokenizer.begin_token is None else [tokenizer.begin_token]
        row = [*begin, *tokenizer.encode(prompt), *tokenizer.encode(response)]
        row.append(tokenizer.end_token)
        alone = judge.model.apply({"params": judge.params}, jnp.array([row]))
        assert value == pytest.approx(float(alone[0, -1]), abs=1e-4)
