"""A checkpoint joins one stage to the next: the model directory.

    model.json     kind ("lm", "scalar" or "encoder"), its config, where it came from
    params/        the parameters, an Orbax checkpoint with a manifest of hashes; of an
                   adapter what it changes alone, and model.json names its base
    tokenizer/     what turns its tokens into text

`load_model` also reads transformers-compatible directories and hub names, so a stage
can start from either. Handing over is dict arithmetic on the params:
`{**fresh, "trunk": sft.params["trunk"]}`.
"""

import dataclasses
import functools
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from rlhf_jax.checkpoints import CheckpointStore
from rlhf_jax.data import load_tokenizer
from rlhf_jax.data.vocabulary import check_vocabulary
from rlhf_jax.errors import InputError
from rlhf_jax.models import (
    EncoderConfig,
    EncoderRewardModel,
    LanguageModel,
    ScalarModel,
    TrunkConfig,
    abstract_params,
    adapter_of,
)
from rlhf_jax.parallel import shardings
from rlhf_jax.registry.loaded import LoadedModel, light_params
from rlhf_jax.registry.seal import (
    fingerprint,
    require_same_params,
    require_whole,
    sealed,
)
from rlhf_jax.schema import from_config_dict
from rlhf_jax.storage import is_first_process, read_json, write_json

# what names the members of an ensemble; see `registry.ensemble`
ENSEMBLE = "ensemble.json"

# kind -> (class of the config, class of the model)
_KINDS = {
    "lm": (TrunkConfig, LanguageModel),
    "scalar": (TrunkConfig, ScalarModel),
    "encoder": (EncoderConfig, EncoderRewardModel),
}


def save_model(
    directory: str | pathlib.Path,
    model: Any,
    params: Any,
    tokenizer: Any,
    meta: dict[str, Any],
    *,
    adapter: Any = None,
) -> None:
    """Writes a model directory; `model.json` last, so that a half one is never read.

    Args:
      directory: where; made if absent.
      model: `LanguageModel`, `ScalarModel` or `EncoderRewardModel`.
      params: its params.
      tokenizer: saved beside it.
      meta: JSON-able; stored with the model.
      adapter: of a `LoadedModel`: what it changes is written, and the name of its base.
    """
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    marker = directory / "model.json"
    if is_first_process():
        marker.unlink(missing_ok=True)
    if adapter is not None:
        params = adapter_of(params)
    name = fingerprint(params)
    store = CheckpointStore(directory / "params", keep_last=1)
    store.save(_next_step(store), {"params": params}, {"params": name}, force=True)
    store.close()
    text = {
        "kind": kind_of_model(model),
        "config": dataclasses.asdict(model.config),
        "meta": meta,
    }
    if adapter is not None:
        text["adapter"] = adapter.described(directory)
    if is_first_process():
        tokenizer.save(directory / "tokenizer")
        text = sealed(text, directory / "tokenizer", name)
    write_json(marker, text, sort_keys=True)


def kind_of_model(model: Any) -> str:
    """ "lm", "scalar" or "encoder"."""
    for kind, (_, model_class) in _KINDS.items():
        if isinstance(model, model_class):
            return kind
    raise TypeError(f"{type(model).__name__} has no model directory")


def _next_step(store: CheckpointStore) -> int:
    latest = store.latest_step()
    return 1 if latest is None else latest + 1


def load_model(
    name: str | pathlib.Path,
    *,
    mesh: Mesh | None = None,
    dtype: str | None = None,
    light: bool = False,
) -> LoadedModel:
    """Reads a model directory, a transformers-compatible directory or a hub model.

    Args:
      name: a path (of a stage's directory, its `model` inside) or a hub name.
      mesh: where the parameters are read to: each device reads its own part of them,
        and nothing ever holds the whole. None: one device, which has them all.
      dtype: compute dtype to use instead of the stored one.
      light: for a model that is not trained: its matrices are read in the dtype that
        it computes in, the same numbers in less memory; see `models.cast_matrices`.

    Raises:
      InputError: nothing there, or not a model.
      CheckpointError: the parameters are damaged.
    """
    name = model_directory(name)
    marker = pathlib.Path(name) / "model.json"
    if (pathlib.Path(name) / ENSEMBLE).is_file():
        raise InputError(
            f"{name}: holds an ensemble of reward models, where a single model is "
            f"expected: name one of the members in its {ENSEMBLE}"
        )
    if not marker.is_file():
        if (
            pathlib.Path(name).is_dir()
            and not (pathlib.Path(name) / "config.json").is_file()
        ):
            raise InputError(f"{name}: neither model.json nor config.json is there")
        return _pretrained(str(name), mesh, dtype, light)
    model, meta = read_description(name)
    tokenizer = load_tokenizer(marker.parent / "tokenizer")
    if (described := described_adapter(name)) is not None:
        from rlhf_jax.registry.adapters import load_adapted

        found = LoadedModel(model, None, tokenizer, meta, str(name))
        found = load_adapted(found, described)
        return found if dtype is None else found.with_config(dtype=dtype)
    if dtype is not None:
        model = type(model)(dataclasses.replace(model.config, dtype=dtype))
    check_vocabulary(tokenizer, model.config.vocab_size, str(name))
    params = _read_params(marker, model, mesh, light)
    return LoadedModel(model, params, tokenizer, meta, str(name))


def _read_params(
    marker: pathlib.Path, model: Any, mesh: Mesh | None, light: bool
) -> Any:
    """The parameters beside a `model.json`, each device's part by itself."""
    template = abstract_params(model)
    if light:
        template = jax.eval_shape(functools.partial(light_params, model), template)
    if mesh is not None:
        template = jax.tree.map(
            lambda leaf, place: jax.ShapeDtypeStruct(
                leaf.shape, leaf.dtype, sharding=place
            ),
            template,
            shardings(template, mesh),
        )
    store = CheckpointStore(marker.parent / "params", keep_last=1)
    if light:
        params, kept = store.restore_params(template), store.meta()
    else:
        state, kept = store.restore({"params": template})
        params = state["params"]
    store.close()
    require_same_params(marker, kept)
    return _unbound(params) if mesh is None else params


def _pretrained(
    name: str, mesh: Mesh | None, dtype: str | None, light: bool
) -> LoadedModel:
    """A model in transformers' layout."""
    from rlhf_jax.models import load_pretrained

    places = None if mesh is None else functools.partial(shardings, mesh=mesh)
    loaded = load_pretrained(name, shardings=places, compute=dtype, light=light)
    model = _KINDS[loaded.kind][1](loaded.config)
    tokenizer = load_tokenizer(loaded.path)
    check_vocabulary(tokenizer, loaded.config.vocab_size, name)
    params = _unbound(loaded.params) if mesh is None else loaded.params
    return LoadedModel(model, params, tokenizer, {"source": name}, name)


def load_reader(name: str | pathlib.Path) -> LoadedModel:
    """A model without its parameters: how it reads text, its tokenizer and its form.

    Args:
      name: whatever `load_model` takes.

    Raises:
      InputError: nothing there.
    """
    name = model_directory(name)
    if (pathlib.Path(name) / "model.json").is_file():
        model, meta = read_description(name)
        tokenizer = load_tokenizer(pathlib.Path(name) / "tokenizer")
        return LoadedModel(model, None, tokenizer, meta)
    return LoadedModel(None, None, load_tokenizer(name), {"source": str(name)})


def read_description(directory: str | pathlib.Path) -> tuple[Any, dict[str, Any]]:
    """What `model.json` of a model directory tells: (model, meta); no parameters.

    Raises:
      InputError: it cannot be read, or describes no model.
    """
    marker = pathlib.Path(directory) / "model.json"
    try:
        text = read_json(marker)
        require_whole(marker, text)
        config_class, model_class = _KINDS[text["kind"]]
        config = from_config_dict(config_class, text["config"], str(marker))
        return model_class(config), dict(text["meta"])
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        said = str(error) if isinstance(error, InputError) else repr(error)
        said = said.removeprefix(f"{marker}: ")
        raise InputError(f"{marker}: not a model description: {said}") from error


def described_adapter(directory: str | pathlib.Path) -> dict[str, Any] | None:
    """What `model.json` tells of an adapter and its base; None where it has none."""
    return read_json(pathlib.Path(directory) / "model.json").get("adapter")


def model_directory(name: str | pathlib.Path) -> str:
    """Where the model of a name is: of a stage's directory, its `model` inside.

    Args:
      name: a stage's directory, or whatever `load_model` takes, given back as it is.

    Raises:
      InputError: a stage's directory without a model.
    """

    def has_model(folder: pathlib.Path) -> bool:
        return any((folder / file).is_file() for file in ("model.json", ENSEMBLE))

    path = pathlib.Path(name)
    if has_model(path):
        return str(name)
    if has_model(path / "model"):
        return str(path / "model")
    if (path / "stage.json").is_file():
        raise InputError(
            f"{name}: the directory of a stage without a model: it is not finished, or "
            "is of a kind that makes none"
        )
    return str(name)


def _unbound(params: Any) -> Any:
    """Free to go to whichever mesh uses them: read arrays are bound to one device."""
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), params)
