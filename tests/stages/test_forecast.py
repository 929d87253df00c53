"""An experiment on machines that are not here: what fits, what would make it fit."""

import dataclasses
import subprocess
import sys

import pytest
import tiny_experiment

from rlhf_jax.cli import main
from rlhf_jax.errors import InputError
from rlhf_jax.models import TrunkConfig, gpt3_config
from rlhf_jax.parallel.hardware import parse_machines
from rlhf_jax.pipeline.experiment import Experiment
from rlhf_jax.pipeline.forecast import forecast, forecasts
from rlhf_jax.stages import ppo, pretrain, sft

NODE = "gpu:8xH100-80GB"


def experiment(shape=None, mesh="auto", **changes):
    """Pretraining, SFT and PPO of one shape."""
    shape = shape or TrunkConfig(512, 64, 64, 2, 4)
    stages = {
        "gpt": pretrain.Config(
            ("x",), model=shape, tokenizer="byte", window=64, batch_size=16, steps=100
        ),
        "sft": sft.Config(
            "@gpt/model", ("x",), batch_size=16, max_prompt=32, max_response=32
        ),
        "ppo": ppo.Config(
            "@sft/model",
            "@gpt/model",
            ("x",),
            ptx_coef=0.0,
            batch_size=32,
            minibatch_size=16,
            episodes=320,
            max_prompt=32,
            max_response=32,
            **changes,
        ),
    }
    found = Experiment("x", stages)
    found.settings.mesh = mesh
    return found


def found(given, machines=NODE, only=None):
    rows = forecasts(given, parse_machines(machines), only)
    return {each.name: each for each in rows}


@pytest.fixture(scope="module")
def plain():
    return found(experiment())


def test_each_stage_that_trains_has_its_programs_time_and_price(plain):
    stages = plain
    assert [c.name for c in stages["gpt"].costs] == ["update"]
    assert [c.name for c in stages["ppo"].costs] == ["rollout", "assess", "update"]
    assert stages["gpt"].steps == 100 and stages["ppo"].steps == 10
    assert stages["sft"].seconds > 0
    rollout, assess, update = stages["ppo"].costs
    one = 2 * update.seconds(parse_machines(NODE).chip)
    assert stages["ppo"].seconds > one  # two minibatches, and the rollout
    assert rollout.beside > 0 and assess.sent and not rollout.sent


def test_products_are_those_of_the_model():
    """Six per parameter and token, and once more a third that the remat repeats."""
    shape = TrunkConfig(512, 128, 256, 4, 4, remat="none")
    update = found(experiment(shape), only=["gpt"])["gpt"].costs[0]
    matrices = 12 * 4 * 256**2 + 512 * 256
    expected = 6 * matrices * 16 * 64 / 8
    assert 1.0 < update.flops / expected < 1.4


def test_half_the_chips_hold_twice_the_state_each(plain):
    half = found(experiment(), "gpu:4xH100-80GB", ["ppo"])["ppo"].costs[0]
    assert half.beside == pytest.approx(2 * plain["ppo"].costs[0].beside, rel=0.1)


def test_what_does_not_fit_is_told_with_what_would():
    stage = found(experiment(gpt3_config("175B", dtype="bfloat16")), only=["gpt"])[
        "gpt"
    ]
    assert stage.seconds is None and "does not fit" in stage.note
    assert "chips" in stage.note
    large = gpt3_config("13B", dtype="bfloat16", context_length=16384)
    given = experiment(large)
    given.stages["gpt"] = dataclasses.replace(given.stages["gpt"], window=16384)
    stage = found(given, "gpu:2x8xH100-80GB", ["gpt"])["gpt"]
    assert "with remat='full'" in stage.note


def test_rows_that_cannot_be_cut_are_told_with_a_mesh_that_can():
    stage = found(experiment(), "gpu:4x8xH100-80GB", ["gpt"])[
        "gpt"
    ]  # 16 rows, 32 chips
    assert stage.seconds is None
    assert "settings.mesh='1,16,2'" in stage.note
    again = found(experiment(mesh="1,16,2"), "gpu:4x8xH100-80GB", ["gpt"])["gpt"]
    assert again.seconds is not None


def test_parts_that_cannot_be_cut_are_taken_larger_and_told():
    stage = found(experiment(microbatches=4), only=["ppo"])["ppo"]  # 4 rows on 8 chips
    assert stage.seconds is not None and "microbatches=2" in stage.note


def test_the_table_says_what_it_assumes_and_what_it_costs():
    text = forecast(experiment(), NODE, 2.0, ["gpt"])
    assert "989 TFLOP/s" in text and "Estimated, not compiled" in text
    assert "at 2 a chip-hour" in text and "bound from below" in text


def test_stages_that_train_nothing_are_passed_over():
    given = Experiment("tiny", tiny_experiment.stages())
    stages = found(given, only=["world", "dpo"])
    assert not stages["world"].costs
    assert stages["dpo"].costs or stages["dpo"].note


@pytest.mark.parametrize("name", ["v9:2x2", "gpu:8xK80", "v5e", "x*v5e:2x2", "gpu:8"])
def test_a_topology_that_nobody_knows_is_refused(name):
    with pytest.raises(InputError, match="--topology"):
        parse_machines(name)


def test_topology_and_price_are_for_dry_runs(capsys):
    assert main(["run", "experiments/quickstart.py", "--price", "1"]) == 2
    assert "only with --dry-run" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["1b3", "6b", "175b"])
@pytest.mark.slow
def test_the_papers_experiments_have_a_forecast(name):
    run = subprocess.run(
        [sys.executable, "-m", "rlhf_jax.cli", "run"]
        + [f"experiments/instructgpt/{name}.py", "--dry-run"]
        + ["--topology", "gpu:8x8xH200-141GB", "--price", "3"],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    assert "ppo_ptx" in run.stdout and "H200" in run.stdout
