"""Models that are a change of a base, and the base that they share.

A base is read once per process however many models stand on it: the same arrays are in
the params of all of them. What is written is the change and, in `model.json`, the name
of the base with a hash of its parameters, which is compared when it is read again.
"""

import dataclasses
import os
import pathlib
import weakref
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlhf_jax.checkpoints import CheckpointStore, state_hash
from rlhf_jax.errors import InputError
from rlhf_jax.models import (
    LanguageModel,
    LoRA,
    ScalarModel,
    adapted,
    adapter_of,
    base_params,
    init_adapter,
    init_params,
    merged,
)
from rlhf_jax.registry.directories import load_model, save_model
from rlhf_jax.registry.loaded import LoadedModel
from rlhf_jax.registry.seal import require_same_params
from rlhf_jax.schema import from_config_dict

__all__ = ["Adapter", "Base", "load_adapted", "merged_model", "on_base", "with_adapter"]


@dataclasses.dataclass(frozen=True, eq=False)
class Base:
    """Frozen parameters that adapters stand on.

    Attributes:
      model: `LanguageModel` or `ScalarModel` that they are of.
      params: without a head.
      tokenizer: of the model.
      digest: of the params; two bases of one digest are one.
      source: the directory or hub name; None: of a model that is nowhere yet.
    """

    model: Any
    params: Any
    tokenizer: Any
    digest: str
    source: str | None


# digest -> base, as long as a model stands on it
_BASES: weakref.WeakValueDictionary[str, Base] = weakref.WeakValueDictionary()


@dataclasses.dataclass(frozen=True, eq=False)
class Adapter:
    """What a `LoadedModel` is a change of.

    Attributes:
      config: of the change.
      base: what is changed.
    """

    config: LoRA
    base: Base

    def laid(self, tree: dict, rng: Any = None) -> dict:
        """The params of a tree of changes; see `models.adapted`."""
        return adapted(self.base.params, tree, self.config, rng)

    def described(self, directory: pathlib.Path) -> dict[str, Any]:
        """What `model.json` in a directory tells; writes a base that is nowhere yet."""
        base, source = self.base, self.base.source
        if source is None:
            if isinstance(base.model, ScalarModel):
                raise InputError(
                    f"{directory}: the base of the adapter is a reward model that was "
                    "not read from a directory: save it and load it first"
                )
            source = str(directory / "base")
            meta = {"stage": "base of an adapter"}
            whole = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), base.params)
            save_model(source, base.model, whole, base.tokenizer, meta)
        named = {"source": source, "digest": base.digest}
        if pathlib.Path(source).exists():
            named["path"] = os.path.relpath(source, directory)
        return {"lora": dataclasses.asdict(self.config), "base": named}


def with_adapter(start: LoadedModel, config: LoRA, key: Any) -> LoadedModel:
    """A model as an adapter of its base: what training with an adapter starts from.

    Args:
      start: a decoder. One that is an adapter already goes on with its own changes; a
        head is trained on too.
      config: of the adapter.
      key: typed key of a fresh adapter.

    Raises:
      InputError: no decoder, targets that are not there, or an adapter of another kind.
    """
    if start.adapter is None:
        base = base_of(start, config.base_dtype)
        tree = init_adapter(config, base.params, key)
        if "head" in start.params:
            tree["head"] = start.params["head"]
    else:
        base, own = start.adapter.base, start.adapter.config
        if not config.same_function(own):
            raise InputError(
                f"adapter: {start.source or 'the start'} is an adapter of {own}, and "
                f"{config} is asked for: take the same, or export it merged first"
            )
        tree = adapter_of(start.params)
    adapter = Adapter(config, base)
    return dataclasses.replace(start, params=adapter.laid(tree), adapter=adapter)


def on_base(loaded: LoadedModel, adapter: Adapter) -> LoadedModel:
    """A whole model as a change of the base of an adapter, where it is that base.

    A model of other parameters, or an adapter already, is given back as it is.

    Args:
      loaded: any model.
      adapter: whose base is meant, and whose dtype its copy of parameters has.
    """
    base = adapter.base
    decoder = isinstance(loaded.model, LanguageModel | ScalarModel)
    if loaded.adapter is not None or not decoder:
        return loaded
    if base_of(loaded, adapter.config.base_dtype) is not base:
        return loaded
    head = loaded.params.get("head")
    tree = {} if head is None else {"head": head}
    return dataclasses.replace(loaded, params=adapter.laid(tree), adapter=adapter)


def merged_model(loaded: LoadedModel) -> LoadedModel:
    """The same model with params of its own, float32: no adapter any more."""
    if loaded.adapter is None:
        return loaded
    params = merged(jax.tree.map(lambda x: x.astype(jnp.float32), loaded.params))
    return dataclasses.replace(loaded, params=params, adapter=None)


def base_of(start: LoadedModel, dtype: str) -> Base:
    """The base of a whole model; the one in memory where there is one of its hash."""
    params = base_params(start.params, dtype)
    return _shared(start.model, params, start.tokenizer, start.source)


def _shared(model: Any, params: Any, tokenizer: Any, source: str | None) -> Base:
    digest = state_hash(params)
    found = _BASES.get(digest)
    if found is None:
        found = Base(model, params, tokenizer, digest, source)
        _BASES[digest] = found
    return found


def load_adapted(shell: LoadedModel, described: dict[str, Any]) -> LoadedModel:
    """The model of a directory that holds an adapter.

    Args:
      shell: of that directory (`source`), without params.
      described: of `Adapter.described`.

    Raises:
      InputError: the base is not there, or has changed.
      CheckpointError: the parameters are damaged.
    """
    where = pathlib.Path(shell.source)
    marker = where / "model.json"
    config = from_config_dict(LoRA, described["lora"], f"{marker}: adapter")
    base = _load_base(where, described["base"], config.base_dtype)
    key = jax.random.key(0)
    shapes = jax.eval_shape(lambda: init_adapter(config, base.params, key))
    if isinstance(shell.model, ScalarModel):
        shapes["head"] = jax.eval_shape(lambda: init_params(shell.model, key)["head"])
    store = CheckpointStore(where / "params", keep_last=1)
    state, kept = store.restore({"params": shapes})
    store.close()
    require_same_params(marker, kept)
    tree = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), state["params"])
    adapter = Adapter(config, base)
    return dataclasses.replace(shell, params=adapter.laid(tree), adapter=adapter)


def _load_base(where: pathlib.Path, named: dict[str, str], dtype: str) -> Base:
    """The base by its hash where it is in memory, else by its place or its name."""
    if (found := _BASES.get(named["digest"])) is not None:
        return found
    beside = where / named["path"] if "path" in named else None
    source = str(beside) if beside and beside.exists() else named["source"]
    try:
        whole = merged_model(load_model(source))
    except InputError as error:
        raise InputError(f"{where}: the base of this adapter: {error}") from error
    found = base_of(dataclasses.replace(whole, source=named["source"]), dtype)
    if found.digest != named["digest"]:
        raise InputError(
            f"{where}: its base {source} has other parameters than those it was "
            f"trained on (hash {found.digest[:12]}, expected {named['digest'][:12]})"
        )
    return found
