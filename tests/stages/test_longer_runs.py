"""A longer run goes on: the bits of one that was long from the start."""

import dataclasses
import json

import pytest
import tiny_experiment
from test_stage_kills import bits, lines

from rlhf_jax.data import Text
from rlhf_jax.data.inputs import read_prompts, read_rows
from rlhf_jax.errors import InputError, NumericsError
from rlhf_jax.pipeline.experiment import Experiment
from rlhf_jax.pipeline.runner import run_experiment
from rlhf_jax.stages import ppo
from rlhf_jax.training import OptimizerConfig

START = "@pretrain/model"
CONSTANT = OptimizerConfig(learning_rate=1e-3, schedule="constant")


def quiet(_):
    pass


def experiment(tiny, steps, **changes):
    """Pretraining alone, on the files of the tiny world."""
    config = tiny.config("pretrain", steps=steps, optimizer=CONSTANT, valid_texts=())
    config = dataclasses.replace(config, **changes)
    return Experiment("longer", {"pretrain": config}, tiny_experiment.SETTINGS)


def test_six_steps_and_six_more_are_twelve_bit_for_bit(tiny, tmp_path):
    run_experiment(experiment(tiny, 6), tmp_path / "a", say=quiet)
    with pytest.raises(InputError, match="steps 6 -> 12: add --extend to go on"):
        run_experiment(experiment(tiny, 12), tmp_path / "a", say=quiet)
    run_experiment(experiment(tiny, 12), tmp_path / "a", extend=True, say=quiet)
    run_experiment(experiment(tiny, 12), tmp_path / "b", say=quiet)
    assert lines(tmp_path / "a/pretrain") == lines(tmp_path / "b/pretrain")
    assert len(lines(tmp_path / "a/pretrain")) == 12
    a, b = (bits(tmp_path / run / "pretrain/model") for run in "ab")
    assert a == b
    with pytest.raises(InputError, match="12 steps are done, 6 are asked for"):
        tiny.run("pretrain", tmp_path / "b/pretrain", optimizer=CONSTANT, steps=6,
                 valid_texts=())  # fmt: skip


def test_a_schedule_that_has_an_end_says_what_a_longer_run_does_to_it(tiny, tmp_path):
    cosine = dataclasses.replace(CONSTANT, schedule="cosine")
    said = []
    for steps in (2, 4):
        run_experiment(
            experiment(tiny, steps, optimizer=cosine), tmp_path, extend=True,
            say=said.append,
        )  # fmt: skip
    (told,) = [line for line in said if "2 -> 4" in line]
    assert "optimizer.schedule 'cosine'" in told and "that of the new length" in told
    rates = [row["learning_rate"] for row in lines(tmp_path / "pretrain")]
    run_experiment(
        experiment(tiny, 4, optimizer=cosine), tmp_path / "straight", say=quiet
    )
    straight = [row["learning_rate"] for row in lines(tmp_path / "straight/pretrain")]
    assert rates[2:] == straight[2:] and rates[1] != straight[1]


def test_a_run_that_its_kl_stopped_goes_on_under_a_higher_limit(tiny, tmp_path):
    changes = {"episodes": 40, "batch_size": 8, "snapshot_every": None}
    reward = {"reward": "@fresh_reward/model", "init": START}
    config = tiny.config("ppo", **changes, **reward)

    def run(max_kl):
        limited = dataclasses.replace(config, max_kl=max_kl)
        stages = {"ppo": limited}
        made = Experiment("limits", stages, tiny_experiment.SETTINGS)
        run_experiment(made, tmp_path, say=quiet)

    for _ in range(2):
        with pytest.raises(NumericsError, match="kl too high"):
            run(1e-12)
    stopped = lines(tmp_path / "ppo")
    assert 0 < len(stopped) < 5
    run(100.0)
    assert lines(tmp_path / "ppo")[: len(stopped)] == stopped
    assert len(lines(tmp_path / "ppo")) == 5
    assert [path.name for path in tmp_path.glob("ppo*")] == ["ppo"]


def test_another_reward_function_is_refused_where_the_old_one_trained(tiny, tmp_path):
    config = tiny.config("ppo", episodes=8, reward="x", init=START)

    def short(prompts, responses):
        return [-float(len(text)) for text in responses]

    def long(prompts, responses):
        return [float(len(text)) for text in responses]

    def run(reward):
        ppo.train(
            tiny.model("pretrain"),
            read_prompts(config.prompts),
            reward=reward,
            texts=read_rows(config.texts, Text),
            config=config,
            workdir=tmp_path,
            settings=tiny.settings,
        ).result()

    run(short)
    run(short)
    provenance = json.loads((tmp_path / "provenance.json").read_text())
    assert len(provenance["starts"]) == 2 and (tmp_path / "config.json").exists()
    with pytest.raises(InputError, match="reward"):
        run(long)
