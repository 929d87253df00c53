"""PPO as a whole on a tiny policy with a reward that a program gives."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_experiment import ppo_config

from rlhf_jax.data import prompt_stream
from rlhf_jax.data.inputs import fitting, read_prompts
from rlhf_jax.errors import InputError
from rlhf_jax.parallel import compile_update, init_sharded, make_mesh
from rlhf_jax.registry import as_reward, load_model, reward_from
from rlhf_jax.stages import ppo
from rlhf_jax.stages.ppo.alarms import alarms
from rlhf_jax.stages.ppo.run import with_snapshots
from rlhf_jax.training import OptimizerConfig, init_state, make_optimizer, make_update

ROWS, MINIBATCH, EPOCHS = 16, 8, 4


def share_of_e(prompts, responses):
    """A reward that everybody can read: how many letters of 12 are an e."""
    del prompts
    return [text.count("e") / 12 for text in responses]


class Harness:
    """PPO without its directory: one compiled update for every run of this file."""

    def __init__(self, tiny):
        config = ppo_config(
            ptx_coef=0.0,
            batch_size=ROWS,
            minibatch_size=MINIBATCH,
            inner_epochs=EPOCHS,
        )
        self.config = dataclasses.replace(config, init="", reward="")
        self.policy = tiny.model("pretrain")
        self.value = reward_from(self.policy, jax.random.key(1))
        self.mesh = make_mesh(devices=jax.devices()[:1])
        self.records = fitting(
            read_prompts((str(tiny.done("world") / "prompts.train.jsonl"),)),
            self.policy.form,
            48,
        )
        adam = OptimizerConfig(name="adam", learning_rate=1e-2, schedule="constant")
        self.tx = {name: make_optimizer(adam, 1000) for name in ("policy", "value")}
        terms = ppo.make_loss(self.policy.model, self.value.model, self.config)
        update = make_update(
            terms, self.tx, ema_decay=0.9, switches={"policy": "policy_on"}
        )
        self.update = compile_update(update, self.mesh)

    def state(self, kl_coef=0.02):
        def init(params, rng):
            extra = {"kl_coef": jnp.float32(kl_coef)}
            return init_state(params, self.tx, rng, ema=True, extra=extra)

        params = {"policy": self.policy.params, "value": self.value.params}
        state = init_sharded(init, params, jax.random.key(0), mesh=self.mesh)
        return self.update.place(state)

    def iteration(self, **changes):
        config = dataclasses.replace(self.config, **changes)
        players = ppo.Players(self.policy, self.value, as_reward(share_of_e))
        frozen = {"reference": self.policy.params}
        prompts = prompt_stream(
            self.records,
            self.policy.tokenizer,
            batch_size=ROWS,
            max_prompt=48,
            last="drop",
        )
        return ppo.Iteration(
            config,
            players,
            prompts,
            self.records,
            None,
            self.update,
            self.mesh,
            frozen,
        )

    def train(self, kl_coef, iterations):
        state, iteration, rows = self.state(kl_coef), self.iteration(), []
        for step in range(iterations):
            state, metrics = iteration(state, step)
            rows.append(jax.device_get(metrics))
        return rows


@pytest.fixture(scope="module")
def harness(tiny):
    return Harness(tiny)


@pytest.fixture(scope="module")
def free(harness):
    """A run with β = 0."""
    return harness.train(0.0, 16)


@pytest.fixture(scope="module")
def dear(harness):
    """A run with β = 2, one of the paper's two extremes (figure 35)."""
    return harness.train(2.0, 16)


def mean_of(rows, name):
    return float(np.mean([row[name] for row in rows]))


def test_four_inner_epochs_climb(free):
    first, last = mean_of(free[:3], "score"), mean_of(free[-3:], "score")
    assert last > first + 0.3


def test_without_a_price_the_kl_grows_and_with_a_high_one_it_stays_small(free, dear):
    assert free[0]["kl_exact"] == 0.0 and dear[0]["kl_exact"] == 0.0
    assert mean_of(free[-3:], "kl_exact") > 2.0
    assert mean_of(dear[-3:], "kl_exact") < 0.25 * mean_of(free[-3:], "kl_exact")
    assert mean_of(free[-3:], "score") > mean_of(dear[-3:], "score")


def test_the_kl_estimates_agree_within_their_error(free):
    for row in free[1:]:
        error = 5 * (row["kl_error"] + row["kl_exact_error"])
        assert abs(row["kl"] - row["kl_exact"]) < error + 1e-3


def test_clipping_acts_after_the_first_minibatch_and_not_in_it(harness, free):
    state, iteration = harness.state(), harness.iteration()
    assessed = iteration.score(state, iteration.sample(state, 0), 0)
    rollout, _ = iteration.shape(assessed, state.extra["kl_coef"])
    batch = {
        "rollout": iteration.take(rollout, jnp.arange(MINIBATCH)),
        "policy_on": np.float32(1.0),
    }
    state, first = harness.update(state, batch)
    assert first["clip_fraction"] == 0.0
    assert abs(first["update_kl"]) < 1e-6
    assert first["ratio"] == pytest.approx(1.0, abs=1e-5)
    for _ in range(6):
        state, later = harness.update(state, batch)
    assert later["clip_fraction"] > 0.0
    assert later["update_kl"] > 1e-4
    assert max(row["first_ratio_error"] for row in free) < 1e-4
    assert max(row["clip_fraction"] for row in free) > 0.0


def test_an_iteration_is_a_function_of_its_number(harness):
    iteration = harness.iteration()
    once = iteration.sample(harness.state(), 3)
    again = iteration.sample(harness.state(), 3)
    other = iteration.sample(harness.state(), 4)
    np.testing.assert_array_equal(once["tokens"], again["tokens"])
    assert (np.asarray(once["tokens"]) != np.asarray(other["tokens"])).any()


def test_every_epoch_trains_each_episode_once_in_its_own_order(harness):
    iteration, seen = harness.iteration(inner_epochs=2), []
    iteration.take = lambda rollout, rows: seen.append(np.asarray(rows))
    metrics = {"ratio": 1.0, "skipped": 0, "skipped_in_a_row": 0}
    metrics = {name: jnp.float32(value) for name, value in metrics.items()}
    iteration.update = lambda state, batch, frozen: (state, metrics)
    state = types.SimpleNamespace(rng=jax.random.key(0))
    iteration.learn(state, {}, 0)
    epochs = np.concatenate(seen).reshape(2, ROWS)
    for epoch in epochs:
        assert sorted(epoch.tolist()) == list(range(ROWS))
    assert (epochs[0] != epochs[1]).any()


def test_the_value_function_can_warm_up_while_the_policy_rests(harness):
    iteration = harness.iteration(value_warmup_iterations=1)
    before = jax.device_get(harness.state().params)
    state, _ = iteration(harness.state(), 0)
    after = jax.device_get(state.params)
    jax.tree.map(np.testing.assert_array_equal, before["policy"], after["policy"])
    kernel = ("head", "kernel")
    moved = [tree["value"][kernel[0]][kernel[1]] for tree in (before, after)]
    assert (moved[0] != moved[1]).any()
    moments = jax.device_get((harness.state().opt_state, state.opt_state))
    jax.tree.map(np.testing.assert_array_equal, *[m["policy"] for m in moments])


def test_the_adaptive_price_follows_the_kl(harness):
    control = ppo.KLControl(kl_coef=0.1, target=1.0, horizon=100)
    iteration = harness.iteration(kl=control)
    state = types.SimpleNamespace(extra={"kl_coef": jnp.float32(0.1)})
    state.replace = lambda extra: types.SimpleNamespace(extra=extra)
    for kl, change in ((3.0, 1 + 0.2 * ROWS / 100), (0.1, 1 - 0.2 * ROWS / 100)):
        metrics = {"kl": jnp.float32(kl)}
        adapted = iteration.adapt_kl(state, metrics, 0).extra["kl_coef"]
        assert float(adapted) == pytest.approx(0.1 * change, rel=1e-5)
        assert float(metrics["kl_coef"]) == pytest.approx(0.1)
    resting = harness.iteration(kl=control, value_warmup_iterations=1)
    assert resting.adapt_kl(state, {"kl": jnp.float32(0.0)}, 0) is state


def test_a_snapshot_is_the_policy_whose_kl_stands_beside_it(harness, tmp_path):
    rows, params = [], []

    def iteration(state, index):
        params.append(jax.device_get(state.params["policy"]))
        moved = jax.tree.map(lambda leaf: leaf + 1, state.params["policy"])
        rows.append({"kl": jnp.float32(9), "kl_exact": jnp.float32(index)})
        return types.SimpleNamespace(params={"policy": moved}), rows[-1]

    iteration.players = types.SimpleNamespace(policy=harness.policy)
    iteration.measure = lambda state, index: {"kl_exact": jnp.float32(10 * index)}
    config = dataclasses.replace(
        harness.config, snapshot_every=2, episodes=6 * harness.config.batch_size
    )
    step = with_snapshots(iteration, tmp_path, config)
    state = types.SimpleNamespace(params={"policy": harness.policy.params})
    for index in range(6):
        state, metrics = step(state, index)
        assert metrics is rows[index]
    folders = sorted((tmp_path / "snapshots").iterdir())
    assert [folder.name for folder in folders] == ["000002", "000004", "000006"]
    params.append(jax.device_get(state.params["policy"]))
    for folder, index, kl in zip(folders, (2, 4, 6), (2, 4, 60), strict=True):
        found = load_model(folder)
        assert found.meta["kl"] == kl
        jax.tree.map(np.testing.assert_array_equal, found.params, params[index])


def test_a_reward_function_gets_records_and_responses_without_their_end(harness):
    tokenizer, seen = harness.policy.tokenizer, {}

    def reward(prompts, responses, records):
        seen.update(prompts=prompts, responses=responses, records=records)
        return [0.5] * ROWS

    ids = tokenizer.encode("Where is the bell?")
    iteration = harness.iteration(end_tokens=(ids[1], tokenizer.end_token))
    iteration.players = dataclasses.replace(iteration.players, reward=as_reward(reward))
    tokens = np.array([[ids[0], ids[1]]] * ROWS)
    iteration.assess = lambda params, samples: dict(samples)
    samples = {"tokens": tokens, "mask": tokens >= 0}
    assessed = iteration.score(harness.state(), samples, 3)
    rows = iteration.prompts.batch(3)["row"]
    assert seen["prompts"] == [harness.records[row].prompt for row in rows]
    assert [record["id"] for record in seen["records"]] == [
        harness.records[row].id for row in rows
    ]
    assert seen["responses"] == [tokenizer.decode(ids[:1])] * ROWS
    assert assessed["scores"].tolist() == [0.5] * ROWS


GOOD = {"kl": 1.0, "kl_exact": 1.0, "truncated": 0.1, "repetition": 0.1, "length": 8.0}
GOOD |= {"sampler_gap_max": 1e-3, "bad_scores": 0.0, "value_explained_variance": 0.2}
GOOD |= {"score": 1.0, "score_std": 0.3}


@pytest.mark.parametrize(
    "name, history",
    [
        ("kl too high", [GOOD, GOOD | {"kl": 500.0}]),
        ("truncated too high", [GOOD | {"truncated": 1.0}]),
        ("repetition too high", [GOOD | {"repetition": 0.8}]),
        ("sampler_gap_max too high", [GOOD | {"sampler_gap_max": 2.0}]),
        ("bad_scores too high", [GOOD | {"bad_scores": 1.0}]),
        ("kl_exact too low", [GOOD | {"kl_exact": -1.0}]),
        ("length drifts", [GOOD, GOOD | {"length": 30.0}]),
        ("score collapses", [GOOD] * 20 + [GOOD | {"score": -2.0}] * 20),
    ],
)
def test_each_alarm_fires_at_its_trouble_and_at_no_other(name, history):
    config = ppo_config()
    fired = [alarm.name for alarm in alarms(config) if alarm.when(tuple(history))]
    assert fired == [name]
    assert not any(alarm.when((GOOD,) * 50) for alarm in alarms(config))


def test_settings_that_cannot_work_are_all_named():
    config = ppo_config(
        minibatch_size=3, episodes=4, temperature=0.0, ptx_coef=-1.0, result="best"
    )
    problems = "\n".join(config.problems())
    for field in ("minibatch_size", "episodes", "temperature", "ptx_coef", "result"):
        assert f"{field}: " in problems


def in_memory(tiny, reward=share_of_e, **changes):
    config = dataclasses.replace(
        ppo_config(ptx_coef=0.0, snapshot_every=None), init="", reward="", prompts=()
    )
    return ppo.train(
        tiny.model("pretrain"),
        ["Who runs the mill?", "Say it.", "When?", "What is a harbour?"] * 2,
        reward=reward,
        config=dataclasses.replace(config, **{"episodes": 16} | changes),
        settings=tiny.settings,
    )


def test_a_reward_function_alone_trains_a_value_with_a_fresh_head(tiny):
    run = in_memory(tiny)
    rows = list(run)
    assert [row["step"] for row in rows] == [1, 2]
    assert all("value_explained_variance" in row for row in rows)
    before = tiny.model("pretrain").params
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), before, run.model.params)
    assert any(jax.tree.leaves(moved))


GROUPS = {"samples_per_prompt": 4, "batch_size": 16, "minibatch_size": 8}


@pytest.mark.parametrize("kind", ["leave_one_out", "group_normalized"])
def test_without_a_value_model_none_is_trained_and_the_reward_rises(tiny, kind):
    adam = OptimizerConfig(name="adam", learning_rate=1e-2, schedule="constant")
    changes = {"episodes": 16 * 14, "optimizer": adam, "inner_epochs": 2}
    changes |= {"kl": ppo.KLControl(kl_coef=0.0), "warmup_iterations": 0}
    run = in_memory(tiny, advantages=kind, **GROUPS | changes)
    rows = list(run)
    assert not any(name.startswith("value") for name in rows[0])
    scores = [row["score"] for row in rows]
    assert np.mean(scores[-3:]) > np.mean(scores[:3]) + 0.02


def test_the_kl_can_stand_in_the_loss(tiny):
    def with_price(price):
        control = ppo.KLControl(kl_coef=price, place="loss")
        changes = {"advantages": "group_normalized", "kl": control, "episodes": 64}
        return list(in_memory(tiny, **GROUPS | changes))

    free, dear = with_price(0.0), with_price(5.0)
    # the score alone is the reward, whatever the price
    assert free[0]["reward"] == pytest.approx(free[0]["score"])
    assert dear[0]["reward"] == pytest.approx(dear[0]["score"])
    # the price keeps the policy near its start
    assert dear[-1]["kl_exact"] < free[-1]["kl_exact"]


def test_settings_of_groups_that_cannot_work_are_all_named():
    config = ppo_config(
        advantages="leave_one_out", value="somewhere", value_warmup_iterations=2
    )
    problems = "\n".join(config.problems())
    for field in ("samples_per_prompt", "value", "value_warmup_iterations"):
        assert f"{field}: " in problems
    assert "batch_size: " in "\n".join(
        ppo_config(samples_per_prompt=3, batch_size=8).problems()
    ) or "samples_per_prompt: " in "\n".join(
        ppo_config(samples_per_prompt=3, batch_size=8).problems()
    )


def test_a_reward_model_is_no_policy_and_a_language_model_no_reward(tiny):
    judge = reward_from(tiny.model("pretrain"), jax.random.key(1))
    with pytest.raises(InputError, match="ppo.init: holds a reward model"):
        ppo.train(judge, ["x"] * 8, reward=share_of_e)
    with pytest.raises(InputError, match="expected a reward model"):
        ppo.train(tiny.model("pretrain"), ["x"] * 8, reward=tiny.model("pretrain"))
