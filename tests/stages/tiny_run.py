"""A run directory of the tiny experiment, whose stages are done when asked for.

`tiny.done("sft")` runs a stage of `tiny_experiment` once, with what it starts from, and
gives its directory; `tiny.config("sft", epochs=1)` its config with real paths.
"""

import dataclasses
import pathlib

import pytest
import tiny_experiment
from stage_worker import on_one_device

from rlhf_jax.pipeline import runner
from rlhf_jax.pipeline.experiment import kind_of, references
from rlhf_jax.registry import LoadedModel, load_model, reward_from, save_model
from rlhf_jax.stages import module_of
from rlhf_jax.tracking import read_metrics


class Tiny:
    """A run directory whose stages are done when somebody asks for them."""

    settings = tiny_experiment.SETTINGS

    def __init__(self, workdir: pathlib.Path):
        self.workdir = workdir
        self.stages = tiny_experiment.stages()
        # long enough for 20 steps, and no stage waits for one that it does not need
        change = dataclasses.replace
        start = {"init": "@pretrain/model"}
        rankings = {"rankings": ("@world/rankings.train.jsonl",)}
        self.stages["sft"] = change(self.stages["sft"], epochs=10)
        self.stages["reward"] = change(
            self.stages["reward"], epochs=7, **start, **rankings
        )
        self.stages["dpo"] = change(self.stages["dpo"], **start, **rankings)
        for name in ("ppo", "ppo_ptx"):
            self.stages[name] = change(self.stages[name], episodes=160, **start)
        self.stages["best_of_n"] = change(
            self.stages["best_of_n"],
            policy="@pretrain/model",
            reward="@fresh_reward/model",
        )
        self.stages["candidates"] = change(
            self.stages["candidates"],
            policies=("@pretrain/model", "@pretrain/model"),
            prompts=("@world/prompts.test.jsonl",),
        )

    def config(self, name: str, **changes):
        """The config of a stage; what it refers to is done."""
        config = dataclasses.replace(self.stages[name], **changes)
        for reference in references(config):
            self.done(reference.split("/")[0])
        return runner.resolved(config, self.workdir)

    def run(self, name: str, workdir: pathlib.Path, *, settings=None, **changes):
        """Runs a stage with a changed config somewhere else."""
        config = self.config(name, **changes)
        module = module_of(kind_of(config))
        return module.run(config, workdir, settings or self.settings)

    def done(self, name: str) -> pathlib.Path:
        """The directory of a finished stage."""
        directory = self.workdir / name
        if not directory.exists():
            if name == "fresh_reward":
                self._fresh_reward(directory / "model")
            else:
                self.run(name, directory)
        return directory

    def model(self, name: str) -> LoadedModel:
        """The model of a stage."""
        return load_model(self.done(name) / "model")

    def metrics(self, name: str) -> list[dict]:
        """The lines of metrics of a stage."""
        return list(read_metrics(self.done(name)))

    def _fresh_reward(self, directory: pathlib.Path) -> None:
        """A reward model that nobody trained: enough where only its shape matters."""
        import jax

        start = reward_from(self.model("pretrain"), jax.random.key(1))
        save_model(directory, start.model, start.params, start.tokenizer, {})


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Tiny:
    on_one_device()
    return Tiny(tmp_path_factory.mktemp("tiny"))
