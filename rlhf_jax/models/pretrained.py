"""Reading checkpoints in transformers' layout: `load_pretrained`.

Names and shapes are checked against the config before a number is read; each device
then reads its own slices, so that no device and no host holds a second model.
"""

import dataclasses
import functools
import pathlib
import re
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from rlhf_jax.errors import InputError
from rlhf_jax.models.config import DTYPES, TrunkConfig
from rlhf_jax.models.dialects import trunk_config
from rlhf_jax.models.families import (
    FAMILIES,
    Family,
    Row,
    ours_of,
    shape_of_theirs,
)
from rlhf_jax.models.foreign import refuse_foreign
from rlhf_jax.models.heads import LanguageModel, ScalarModel, init_params
from rlhf_jax.models.trunk import cast_matrices
from rlhf_jax.models.weights import (
    Weights,
    numpy_dtype,
    open_weights,
    read_json,
)
from rlhf_jax.storage import looks_local

_HUB_FILES = ("*.json", "*.safetensors", "*.jinja", "*.txt", "*.model")
_NO_BIAS = "head/bias"  # transformers' heads have none: 0


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A checkpoint that was read.

    Attributes:
      config: of the trunk.
      params: of a `LanguageModel` or a `ScalarModel`.
      kind: "lm" or "scalar".
      family: `model_type`, for `save_pretrained`.
      path: the directory, which holds the tokenizer's files too.
      generation: generation_config.json; {} where absent.
    """

    config: TrunkConfig
    params: dict
    kind: str
    family: str
    path: pathlib.Path
    generation: dict

    @property
    def model(self) -> LanguageModel | ScalarModel:
        """The module of these parameters."""
        return model_of(self.kind, self.config)


def model_of(kind: str, config: TrunkConfig) -> LanguageModel | ScalarModel:
    """The module of a kind: "lm" or "scalar"."""
    return {"lm": LanguageModel, "scalar": ScalarModel}[kind](config)


def load_pretrained(
    name: str | pathlib.Path,
    *,
    dtype: str | None = None,
    compute: str | None = None,
    light: bool = False,
    shardings: Callable[[Any], Any] | None = None,
) -> Pretrained:
    """Reads a directory or a hub name in transformers' layout; never a pickle.

    Args:
      name: a directory with config.json and safetensors, or a name on the hub.
      dtype: of the parameters: "float32" when None, whatever the file holds (updates
        of training vanish in bfloat16); "bfloat16" or "float16" to keep less. It sets
        the compute dtype of the config too, when given.
      compute: compute dtype of the config alone.
      light: read what multiplies (`cast_matrices`) in the compute dtype: the same
        numbers in less memory, for a model that is not trained.
      shardings: from a tree of shapes to a tree of `jax.sharding.Sharding`, as
        `functools.partial(rlhf_jax.parallel.shardings, mesh=mesh, rules=rules)`;
        None: all on the first device.

    Returns:
      Config, parameters and where the tokenizer is.

    Raises:
      InputError: one clear reason, naming the file and the tensor.
    """
    found, sources, weights = _checked(name, dtype)
    if compute is not None:
        require_dtype(compute)
        found = dataclasses.replace(
            found, config=dataclasses.replace(found.config, dtype=compute)
        )
    abstract = found.params
    if light:
        cast = functools.partial(cast_matrices, dtype=found.config.dtype)
        abstract = jax.eval_shape(cast, abstract)
    params = read_leaves(abstract, sources, weights, found.config, shardings)
    return dataclasses.replace(found, params=params)


def pretrained_shapes(
    name: str | pathlib.Path, *, dtype: str | None = None
) -> Pretrained:
    """As `load_pretrained`, all checks of names and shapes included, but no numbers.

    Returns:
      A `Pretrained` whose params are `jax.ShapeDtypeStruct`s.
    """
    found, _, _ = _checked(name, dtype)
    return found


def _checked(name, dtype):
    """What the headers tell: (shapes, where each leaf is, open files)."""
    if dtype is not None:
        require_dtype(dtype)
    path = checkpoint_directory(name)
    refuse_foreign(path)
    raw = read_json(path / "config.json")
    config = trunk_config(raw, str(path / "config.json"))
    generation_file = path / "generation_config.json"
    generation = read_json(generation_file) if generation_file.is_file() else {}
    _check_ids(raw, config, path / "config.json")
    _check_ids(generation, config, generation_file)
    if dtype is not None:
        config = dataclasses.replace(config, dtype=dtype)
    weights = open_weights(path)
    family = as_stored(FAMILIES[raw["model_type"]], weights)
    kind = "scalar" if "score.weight" in weights.files else "lm"
    abstract = abstract_params(model_of(kind, config), dtype or "float32")
    sources = matched(family, config, abstract, weights)
    found = Pretrained(
        config=config,
        params=abstract,
        kind=kind,
        family=family.name,
        path=path,
        generation=generation,
    )
    return found, sources, weights


def require_dtype(dtype: str) -> None:
    """Raises InputError for the name of a dtype that models do not compute in."""
    if dtype not in DTYPES:
        raise InputError(f"dtype {dtype!r}: expected one of {', '.join(DTYPES)}")


def _check_ids(raw: dict, config: TrunkConfig, file: pathlib.Path) -> None:
    """Refuses control tokens that the embedding has no row for; -1 means none."""
    for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
        ids = raw.get(key)
        for token in ids if isinstance(ids, list) else [ids]:
            if token in (None, -1):
                continue
            whole = isinstance(token, int) and not isinstance(token, bool)
            if not whole or not 0 <= token < config.vocab_size:
                raise InputError(
                    f"{file}: {key} {token!r}: expected an id below {config.vocab_size}"
                    ", which is how many rows the embedding has"
                )


def abstract_params(model, dtype: str = "float32") -> dict:
    """Shapes and dtypes of a model's parameters; allocates nothing."""
    dtype = numpy_dtype(dtype)
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), _shapes(model)
    )


@functools.lru_cache(maxsize=64)
def _shapes(model) -> dict:
    """Traced once: it takes a quarter of a second, and models are asked often."""
    return jax.eval_shape(lambda: init_params(model, jax.random.key(0)))


def leaf_paths(params: dict) -> dict[str, Any]:
    """Path of each leaf, as "trunk/layers/mlp/up/kernel" -> leaf."""
    flat, _ = jax.tree_util.tree_flatten_with_path(params)
    name = lambda path: jax.tree_util.keystr(path, simple=True, separator="/")  # noqa: E731
    return {name(path): leaf for path, leaf in flat}


def checkpoint_directory(name) -> pathlib.Path:
    """The directory of a checkpoint: a local one, else the hub's, downloaded once.

    Args:
      name: a directory, or "name" or "owner/name" on the hub.

    Raises:
      InputError: a file, a path that is no directory, or a name the hub does not give.
    """
    path = pathlib.Path(name)
    if path.is_dir():
        return path
    if path.exists() or looks_local(name):
        raise InputError(f"{name}: no directory, and not a hub name")
    from huggingface_hub import snapshot_download

    try:
        return pathlib.Path(snapshot_download(str(name), allow_patterns=_HUB_FILES))
    except Exception as error:  # offline, unknown, gated: the hub has many classes
        raise InputError(f"{name}: no directory, nor on the hub: {error}") from None


def as_stored(family: Family, weights: Weights) -> Family:
    """The family without its prefix, where the file holds a bare trunk ("gpt2")."""
    if any(name.startswith(family.prefix) for name in weights.files):
        return family
    return dataclasses.replace(family, prefix="")


def matched(family, config, abstract, weights) -> dict[str, list[tuple[str, Row]]]:
    """Leaf path -> its (tensor, row) per layer; names and shapes all checked."""
    leaves = leaf_paths(abstract)
    tensors = family.tensors(set(leaves), config)
    file = weights.directory
    optional = {"score.bias"}
    for name, row in tensors.items():
        if name not in weights.files:
            if name in optional:
                continue
            raise InputError(f"{file}: tensor {name!r} is missing")
        shapes = [leaves[path].shape for path in row.ours]
        layered = "{l}" in row.theirs
        shapes = [shape[1:] if layered else shape for shape in shapes]
        expected = shape_of_theirs(shapes, row)
        if weights.shapes[name] != expected:
            raise InputError(
                f"{weights.where(name)} has shape {list(weights.shapes[name])}, "
                f"config.json asks for {list(expected)}"
            )
    ignored = list(family.ignored)
    if "unembedding" not in leaves:  # tied, or a scalar model
        ignored.append(f"^{re.escape(family.unembedding)}$")
    for name in weights.files:
        if name not in tensors and not any(re.search(p, name) for p in ignored):
            raise InputError(f"{weights.where(name)} is not part of {family.name}")
    sources = {path: [] for path in leaves}
    for name, row in tensors.items():
        if name in weights.files:
            for path in row.ours:
                sources[path].append((name, row))
    return sources


def read_leaves(abstract, sources, weights, config, shardings) -> dict:
    """Every leaf, each device's part read by itself."""
    if shardings is None:
        first = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        places = jax.tree.map(lambda _: first, abstract)
    else:
        places = shardings(abstract)

    def leaf(path, shape, place):
        path = jax.tree_util.keystr(path, simple=True, separator="/")
        found = sources[path]
        if not found and path != _NO_BIAS:
            raise InputError(f"{weights.directory}: nothing holds {path}")

        def part(index):
            index = tuple(index)
            if not found:
                array = np.zeros(shape.shape, np.float32)[index]
            elif "{l}" in found[0][1].theirs:
                layers = found[index[0]]
                slices = [_slice(weights, s, path, index[1:], config) for s in layers]
                array = np.stack(slices)
            else:
                array = _slice(weights, found[0], path, index, config)
            return np.asarray(array, dtype=shape.dtype)

        # part by part: together they would be on the host once more
        where = place.addressable_devices_indices_map(shape.shape)
        parts = [jax.device_put(part(index), device) for device, index in where.items()]
        return jax.make_array_from_single_device_arrays(shape.shape, place, parts)

    return jax.tree_util.tree_map_with_path(leaf, abstract, places)


def _slice(weights, source, path, index, config) -> np.ndarray:
    """Part of one layer of a leaf; reads only that part where the layout allows."""
    name, row = source
    if row.layout == "same":
        return weights.read(name, index)
    if row.layout == "transposed":
        return weights.read(name, index[::-1]).T
    # a copy: a view would keep the whole of every layer until the leaf is stacked
    return np.array(ours_of(weights.read(name), row, path, config)[index])
