"""An experiment: named stages in order, and the references between them.

A stage's config names what it starts from. `"@pretrain/model"` is the directory
`model` inside the directory of the stage `pretrain`; anything else is a path or a hub
name. The pipeline replaces references by paths and hashes by content, so a stage is
run again exactly when something that it depends on has changed.
"""

import dataclasses
import importlib
import importlib.util
import pathlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from rlhf_jax.errors import InputError
from rlhf_jax.stages.schema import as_config_dict, from_config_dict
from rlhf_jax.stages.session import RunSettings

__all__ = ["KINDS", "Experiment", "kind_of", "load_experiment", "references"]

# kind of stage -> module with Config and run
KINDS = {
    "simulate": "rlhf_jax.stages.simulate",
    "tokenizer": "rlhf_jax.stages.tokenizer",
    "prepare": "rlhf_jax.stages.prepare",
    "labelled": "rlhf_jax.stages.labelled",
    "pretrain": "rlhf_jax.stages.pretrain",
    "sft": "rlhf_jax.stages.sft",
    "candidates": "rlhf_jax.stages.candidates",
    "reward": "rlhf_jax.stages.reward",
    "ppo": "rlhf_jax.stages.ppo",
    "dpo": "rlhf_jax.stages.dpo",
    "best_of_n": "rlhf_jax.stages.best_of_n",
    "evaluate": "rlhf_jax.stages.evaluate",
    "judge": "rlhf_jax.stages.judge",
    "baselines": "rlhf_jax.stages.baselines",
}
_OWN_KEYS = ("name", "seed", "settings", "stages")


@dataclasses.dataclass
class Experiment:
    """What `rlhf-jax run` runs.

    Attributes:
      name: of the run.
      stages: stage name -> its config, in the order in which they run.
      settings: how to run (mesh, checkpoints, trackers).
      seed: replaces the seed of every stage that has one; None leaves them alone.
    """

    name: str
    stages: dict[str, Any]
    settings: RunSettings = dataclasses.field(default_factory=RunSettings)
    seed: int | None = None

    def to_config(self) -> ConfigDict:
        """As a locked `ConfigDict`: `--config.<stage>.<field>=...` overrides it."""
        made = ConfigDict(
            {
                "name": self.name,
                "settings": as_config_dict(self.settings),
                "stages": tuple(self.stages),
                "seed": 0 if self.seed is None else self.seed,
            }
        )
        for name, config in self.stages.items():
            if name in _OWN_KEYS:
                raise InputError(f"{name!r} cannot be the name of a stage")
            made[name] = as_config_dict(config)
            made[name].kind = kind_of(config)
        return made.lock()

    @classmethod
    def from_config(cls, config: ConfigDict) -> "Experiment":
        """The experiment of a `ConfigDict`, every field checked.

        Raises:
          InputError: all problems of all stages.
        """
        problems, stages = [], {}
        if "stages" not in config:
            raise InputError(
                "config.stages: missing; get_config() ends in .to_config()"
            )
        for name in config.stages:
            try:
                stages[name] = _stage_config(config, name)
            except InputError as error:
                problems += str(error).splitlines()[1:] or [f"  - {error}"]
        try:
            settings = from_config_dict(RunSettings, config.settings, "config.settings")
        except InputError as error:
            problems += str(error).splitlines()[1:]
        for name, stage in stages.items():
            for reference in references(stage):
                if reference.split("/")[0] not in config.stages:
                    problems.append(
                        f"  - config.{name}: @{reference} names no stage; "
                        f"there are {', '.join(config.stages)}"
                    )
        if problems:
            count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
            raise InputError(f"the config has {count}:\n" + "\n".join(problems))
        return cls(config.name, stages, settings, config.seed)


def _stage_config(config: ConfigDict, name: str) -> Any:
    if name not in config:
        raise InputError(f"config.stages: {name!r} has no settings config.{name}")
    values = dict(config[name].items())
    kind = values.pop("kind", None)
    if kind not in KINDS:
        raise InputError(f"config.{name}.kind: {kind!r} is not one of {list(KINDS)}")
    module = importlib.import_module(KINDS[kind])
    if hasattr(module.Config, "seed"):
        values["seed"] = values.get("seed", 0) + (config.seed or 0)
    return from_config_dict(module.Config, values, f"config.{name}")


def kind_of(config: Any) -> str:
    """The kind of a stage's config, such as "sft"."""
    module = type(config).__module__
    for kind, name in KINDS.items():
        if module == name or module.startswith(f"{name}."):
            return kind
    raise InputError(f"{type(config)} is not the Config of a stage")


def references(value: Any) -> Iterator[str]:
    """Every `"@stage/path"` in a config, without the @."""
    if isinstance(value, str):
        if value.startswith("@"):
            yield value[1:]
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from references(getattr(value, field.name))
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from references(item)
    elif isinstance(value, tuple | list):
        for item in value:
            yield from references(item)


def load_experiment(path: str, overrides: list[str]) -> tuple[Experiment, dict]:
    """Reads an experiment file and applies overrides from the command line.

    Args:
      path: a Python file with `get_config() -> ConfigDict`, or `file.py:argument`.
      overrides: words such as `--config.ppo.kl.kl_coef=0.05`.

    Returns:
      (the experiment, {overridden key -> value}).

    Raises:
      InputError: no such file, an unknown key, a value of the wrong type, or settings
        that make no sense; all problems of the config at once.
    """
    file = path.split(":")[0]
    if not pathlib.Path(file).is_file():
        raise InputError(f"{file}: no such experiment file")
    words = ["rlhf-jax", f"--config={path}", *overrides]
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, flag_values=values, sys_argv=words)
    folder = str(pathlib.Path(file).resolve().parent)
    sys.path.insert(0, folder)
    try:
        values(words)
        config = values.config
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        text = _unknown_key(error, overrides) or _one_line(error)
        raise InputError(f"{path}: {text}") from error
    finally:
        sys.path.remove(folder)
    return Experiment.from_config(config), config_flags.get_override_values(
        values["config"]
    )


def _unknown_key(error: Exception, overrides: list[str]) -> str | None:
    """The override that names no setting, and which may be meant; None: it is not that.

    ml_collections tells the key only, in a KeyError or in one within another error.
    """
    while error.args and isinstance(error.args[0], Exception):
        error = error.args[0]
    if not isinstance(error, KeyError) or not error.args:
        return None
    first, *advice = str(error.args[0]).splitlines()
    key = first.strip("'")
    for word in overrides:
        _, *parts = word.lstrip("-").split("=")[0].split(".")
        if key in parts:
            owner = ".".join(parts[: parts.index(key)]) or "the experiment"
            return " ".join([f"{word}: {owner} has no {key!r}.", *advice])
    return None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
