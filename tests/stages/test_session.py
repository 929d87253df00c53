"""An open run directory: under which name it is known, and what stops it again."""

import dataclasses

import jax.numpy as jnp
import pytest

from rlhf_jax.errors import InputError, NumericsError
from rlhf_jax.fields import ModelName
from rlhf_jax.training import above, exhausted
from rlhf_jax.training.session import RunSettings, open_session

SETTINGS = RunSettings(tensorboard=False, save_every=2, fetch_every=1)


@dataclasses.dataclass
class Config:
    init: ModelName
    rate: float = 0.1


def train(run, steps, *, rate=0.1, kl=0.0, alarms=(), place="ppo"):
    """Counts steps in a stage of a run; those that it took."""
    taken = []

    def step_fn(state, step):
        taken.append(step)
        return state, {"loss": jnp.float32(1.0), "kl": jnp.float32(kl)}

    config = Config(str(run / "sft/model"), rate)
    with open_session(run / place, SETTINGS, identity=config, alarms=alarms) as session:
        exhausted(session.loop(step_fn, lambda: {"w": jnp.zeros(2)}, steps=steps))
    return taken


def test_a_cut_stage_goes_on_under_another_path(tmp_path, monkeypatch):
    assert train(tmp_path / "a", 4) == [0, 1, 2, 3]
    (tmp_path / "a").rename(tmp_path / "b")
    assert train(tmp_path / "b", 6) == [4, 5]
    monkeypatch.chdir(tmp_path)
    assert train((tmp_path / "b").relative_to(tmp_path), 7) == [6]
    with pytest.raises(InputError, match="rate"):
        train(tmp_path / "b", 8, rate=0.2)


def test_starting_again_does_not_silence_what_stopped_a_run(tmp_path):
    limit = (above("kl", 1.0, action="stop"),)
    for _ in range(3):
        with pytest.raises(NumericsError, match="kl too high"):
            train(tmp_path, 6, kl=5.0, alarms=limit)
    assert train(tmp_path, 3, kl=5.0, alarms=(above("kl", 9.0, action="stop"),)) != []


def test_a_member_of_a_stage_goes_on_where_its_run_was_moved_to(tmp_path):
    (tmp_path / "a/reward").mkdir(parents=True)
    (tmp_path / "a/sft/model").mkdir(parents=True)
    (tmp_path / "a/reward/stage.json").write_text("{}")
    assert train(tmp_path / "a", 2, place="reward/seed_1") == [0, 1]
    (tmp_path / "a/sft/model/again").touch()  # made again, with other dates in it
    (tmp_path / "a").rename(tmp_path / "b")
    assert train(tmp_path / "b", 4, place="reward/seed_1") == [2, 3]
    assert not (tmp_path / "b/reward/seed_1/provenance.json").exists()
