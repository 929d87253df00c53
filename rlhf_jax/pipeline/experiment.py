"""An experiment: named stages in order, and the references between them.

A stage's config names what it starts from. `"@pretrain/model"` is the directory
`model` inside the directory of the stage `pretrain`; anything else is a path or a hub
name. The pipeline replaces references by paths and hashes by content, so a stage is
run again exactly when something that it depends on has changed.
"""

import dataclasses
import importlib
import importlib.machinery
import importlib.util
import inspect
import pathlib
import sys
import traceback
import types
from collections.abc import Iterator, Mapping
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from rlhf_jax.errors import InputError, RunError
from rlhf_jax.parallel import parse_mesh
from rlhf_jax.schema import as_config_dict, from_config_dict
from rlhf_jax.stages import KINDS, module_of
from rlhf_jax.storage import require_plain_name
from rlhf_jax.training.session import RunSettings

__all__ = ["Experiment", "kind_of", "load_experiment", "references"]

_OWN_KEYS = ("name", "seed", "settings", "stages")


@dataclasses.dataclass
class Experiment:
    """What `rlhf-jax run` runs.

    Attributes:
      name: of the run.
      stages: stage name -> its config, in the order in which they run.
      settings: how to run (mesh, checkpoints, trackers).
      seed: is added to the seed of every stage that has one, once; None: nothing is.
    """

    name: str
    stages: dict[str, Any]
    settings: RunSettings = dataclasses.field(default_factory=RunSettings)
    seed: int | None = None

    def __post_init__(self):
        added, self.seed = self.seed, None
        if added:
            self.stages = {
                name: dataclasses.replace(config, seed=config.seed + added)
                if hasattr(config, "seed")
                else config
                for name, config in self.stages.items()
            }

    def to_config(self) -> ConfigDict:
        """As a locked `ConfigDict`: `--config.<stage>.<field>=...` overrides it."""
        made = ConfigDict(
            {
                "name": self.name,
                "settings": as_config_dict(self.settings),
                "stages": tuple(self.stages),
                "seed": 0,
            }
        )
        for name, config in self.stages.items():
            require_plain_name(name, "the stage")
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
        for key in _OWN_KEYS:
            if key not in config:
                raise InputError(
                    f"config.{key}: missing; get_config() ends in .to_config()"
                )
        for name in config.stages:
            try:
                require_plain_name(name, "config.stages:")
                stages[name] = _stage_config(config, name)
            except InputError as error:
                problems += str(error).splitlines()[1:] or [f"  - {error}"]
        try:
            settings = from_config_dict(RunSettings, config.settings, "config.settings")
        except InputError as error:
            problems += str(error).splitlines()[1:]
        problems += [f"  - config.settings.{p}" for p in _machine(config.settings)]
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


def _machine(settings: Mapping) -> Iterator[str]:
    """What is wrong with a run's settings of the machine; asks no device."""
    modes = ("auto", "on", "off")
    if "distributed" in settings and settings["distributed"] not in modes:
        yield f"distributed: {settings['distributed']!r} is not 'auto', 'on' or 'off'"
    mesh = settings.get("mesh", "auto")
    if not isinstance(mesh, str) or mesh.strip() == "auto":
        return
    try:
        sizes = list(parse_mesh(mesh).values())
    except InputError as error:
        yield f"mesh: {str(error).removeprefix('mesh ')}"
        return
    if sizes.count(-1) > 1 or any(size == 0 or size < -1 for size in sizes):
        yield f"mesh: {mesh!r}: sizes are positive, at most one is -1"


def _stage_config(config: ConfigDict, name: str) -> Any:
    if name not in config:
        raise InputError(f"config.stages: {name!r} has no settings config.{name}")
    if not isinstance(config[name], Mapping | ConfigDict):
        raise InputError(f"config.{name}: expected the settings of a stage")
    values = dict(config[name].items())
    kind = values.pop("kind", None)
    if kind not in KINDS:
        raise InputError(f"config.{name}.kind: {kind!r} is not one of {list(KINDS)}")
    module = module_of(kind)
    return from_config_dict(module.Config, values, f"config.{name}")


def kind_of(config: Any) -> str:
    """The kind of a stage's config, such as "sft"."""
    room, _, name = type(config).__module__.partition("stages.")
    kind = name.partition(".")[0]
    if room == "rlhf_jax." and kind in KINDS:
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
      InputError: no such file, one that fails, an unknown key, a value of the wrong
        type, or settings that make no sense; all problems of the config at once.
    """
    file, *argument = path.split(":", 1)
    if not pathlib.Path(file).is_file():
        raise InputError(f"{file}: no such experiment file")
    made = _made_by(file, argument)
    words = ["rlhf-jax", *overrides]
    values = flags.FlagValues()
    try:
        config_flags.DEFINE_config_dict(
            "config", made, flag_values=values, sys_argv=words
        )
        values(words)
        config = values.config
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        text = _unknown_key(error, overrides) or _one_line(error)
        raise InputError(f"{path}: {text}") from error
    return Experiment.from_config(config), config_flags.get_override_values(
        values["config"]
    )


def _made_by(file: str, argument: list[str]) -> ConfigDict:
    """What `get_config(*argument)` of a file returns."""
    folder = str(pathlib.Path(file).resolve().parent)
    sys.path.insert(0, folder)
    try:
        module = _module(file)
        get_config = getattr(module, "get_config", None)
        if not callable(get_config):
            raise InputError(f"{file}: has no get_config()")
        _require_signature(get_config, file, argument)
        config = get_config(*argument)
    except RunError:
        raise
    except SyntaxError as error:
        where = f"{error.filename or file}:{error.lineno}"
        raise InputError(f"{where}: {type(error).__name__}: {error.msg}") from error
    except Exception as error:
        text = f"{type(error).__name__}: {_one_line(error)}"
        raise InputError(f"{_place(error, file)}: {text}") from error
    finally:
        if folder in sys.path:
            sys.path.remove(folder)
    if not isinstance(config, ConfigDict):
        raise InputError(
            f"{file}: get_config() returned {type(config).__name__}, expected a "
            "ConfigDict; it ends in `return Experiment(...).to_config()`"
        )
    return config


def _module(file: str) -> types.ModuleType:
    name = "config_config"
    loader = importlib.machinery.SourceFileLoader(name, file)
    spec = importlib.util.spec_from_file_location(name, file, loader=loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # for dataclasses of the file
    loader.exec_module(module)
    return module


def _require_signature(get_config: Any, file: str, argument: list[str]) -> None:
    try:
        inspect.signature(get_config).bind(*argument)
    except TypeError as error:
        raise InputError(
            f"{file}: get_config() takes no argument, got {argument[0]!r}"
            if argument
            else f"{file}: get_config() needs an argument, as in {file}:ARGUMENT"
        ) from error


def _place(error: Exception, file: str) -> str:
    """File and line, in the file or beside it, where an error came from."""
    folder = pathlib.Path(file).resolve().parent
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if pathlib.Path(frame.filename).resolve().parent == folder:
            return f"{frame.filename}:{frame.lineno}"
    return file


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
