"""A checkpoint joins one stage to the next: the model directory.

    model.json     kind ("lm" or "scalar"), the trunk's config, where it came from
    params/        the parameters, an Orbax checkpoint with a manifest of hashes
    tokenizer/     what turns its tokens into text

`load_model` also reads transformers-compatible directories and hub names, so a stage
can start from either. Handing over is dict arithmetic on the params:
`{**fresh, "trunk": sft.params["trunk"]}`.
"""

import dataclasses
import json
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlhf_jax.checkpoints import CheckpointStore
from rlhf_jax.data import load_tokenizer
from rlhf_jax.errors import InputError
from rlhf_jax.models import (
    LanguageModel,
    ScalarModel,
    TrunkConfig,
    init_params,
)
from rlhf_jax.stages.schema import from_config_dict

__all__ = [
    "ENSEMBLE",
    "LoadedModel",
    "load_model",
    "reward_from",
    "save_model",
    "value_from",
]

# what names the members of an ensemble; see `stages.ensemble`
ENSEMBLE = "ensemble.json"

_CLASSES = {"lm": LanguageModel, "scalar": ScalarModel}


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """A model with its parameters and its tokenizer.

    Attributes:
      model: `LanguageModel` or `ScalarModel`.
      params: nested dict of float32 arrays.
      tokenizer: see `rlhf_jax.data`.
      meta: where it came from: stage, hashes, and what the stage adds.
    """

    model: Any
    params: Any
    tokenizer: Any
    meta: dict[str, Any]

    def with_config(self, **changes: Any) -> "LoadedModel":
        """The same params under another config, such as another dropout or dtype."""
        config = dataclasses.replace(self.model.config, **changes)
        return dataclasses.replace(self, model=type(self.model)(config))


def save_model(
    directory: str | pathlib.Path,
    model: Any,
    params: Any,
    tokenizer: Any,
    meta: dict[str, Any],
) -> None:
    """Writes a model directory; `model.json` last, so that a half one is never read.

    Args:
      directory: where; made if absent.
      model: `LanguageModel` or `ScalarModel`.
      params: its params.
      tokenizer: saved beside it.
      meta: JSON-able; stored with the model.
    """
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    marker = directory / "model.json"
    marker.unlink(missing_ok=True)
    store = CheckpointStore(directory / "params", keep_last=1)
    store.save(_next_step(store), {"params": params}, {}, force=True)
    store.close()
    tokenizer.save(directory / "tokenizer")
    text = {
        "kind": "scalar" if isinstance(model, ScalarModel) else "lm",
        "config": dataclasses.asdict(model.config),
        "meta": meta,
    }
    partial = marker.with_suffix(".json.partial")
    partial.write_text(json.dumps(text, indent=2, sort_keys=True) + "\n")
    partial.rename(marker)


def _next_step(store: CheckpointStore) -> int:
    latest = store.latest_step()
    return 1 if latest is None else latest + 1


def load_model(name: str | pathlib.Path, *, dtype: str | None = None) -> LoadedModel:
    """Reads a model directory, a transformers-compatible directory or a hub model.

    Args:
      name: a path or a hub name.
      dtype: compute dtype to use instead of the stored one.

    Raises:
      InputError: nothing there, or not a model.
      CheckpointError: the parameters are damaged.
    """
    marker = pathlib.Path(name) / "model.json"
    if (pathlib.Path(name) / ENSEMBLE).is_file():
        raise InputError(
            f"{name}: an ensemble of reward models, where a single model is expected: "
            f"name one of the members in its {ENSEMBLE}"
        )
    if not marker.is_file():
        if (
            pathlib.Path(name).is_dir()
            and not (pathlib.Path(name) / "config.json").is_file()
        ):
            raise InputError(f"{name}: neither model.json nor config.json is there")
        from rlhf_jax.models import load_pretrained

        loaded = load_pretrained(str(name))
        model = _CLASSES[loaded.kind](loaded.config)
        found = LoadedModel(
            model,
            _unbound(loaded.params),
            load_tokenizer(str(name)),
            {"source": str(name)},
        )
        return found if dtype is None else found.with_config(dtype=dtype)
    try:
        text = json.loads(marker.read_text())
        config = from_config_dict(TrunkConfig, text["config"], str(marker))
        model = _CLASSES[text["kind"]](config)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{marker}: not a model description: {error}") from error
    shapes = jax.eval_shape(lambda: init_params(model, jax.random.key(0)))
    store = CheckpointStore(marker.parent / "params", keep_last=1)
    state, _ = store.restore({"params": shapes})
    store.close()
    tokenizer = load_tokenizer(marker.parent / "tokenizer")
    found = LoadedModel(model, _unbound(state["params"]), tokenizer, text["meta"])
    return found if dtype is None else found.with_config(dtype=dtype)


def _unbound(params: Any) -> Any:
    """Free to go to whichever mesh uses them: read arrays are bound to one device."""
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), params)


def reward_from(language_model: LoadedModel, key: Any) -> LoadedModel:
    """A reward model that starts from a language model (InstructGPT section 3.5).

    The unembedding is dropped; a fresh projection to one number takes its place.
    """
    model = ScalarModel(language_model.model.config)
    head = jax.jit(lambda key: init_params(model, key)["head"])(key)
    params = {"trunk": language_model.params["trunk"], "head": head}
    return dataclasses.replace(language_model, model=model, params=params)


def value_from(reward_model: LoadedModel) -> LoadedModel:
    """The value function starts as the reward model, head and all (appendix C.4)."""
    return reward_model
