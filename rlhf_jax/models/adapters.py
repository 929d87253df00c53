"""Adapters: small trees beside a frozen base that several models share.

An adapter is a plain tree of what is trained. Where the base has a kernel, it has two
narrow matrices; what the base lacks (the head of a scalar model) it has whole:

    trunk/layers/attention/query/kernel/lora_a   [L, D, r]
    trunk/layers/attention/query/kernel/lora_b   [L, r, N H]
    head/kernel                                  [D, 1]

`adapted(base, adapter, config)` lays both as one tree of parameters that every function
of params reads (`LowRank` in the place of a kernel). It holds the arrays of the base,
no copies, and a change of a matrix is multiplied, never made: x W + s (x A) B, inside
the scan over layers.
"""

import dataclasses
import re
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from rlhf_jax.errors import InputError
from rlhf_jax.models.config import DTYPES
from rlhf_jax.models.low_rank import LowRank
from rlhf_jax.models.pretrained import leaf_paths
from rlhf_jax.models.trunk import cast_matrices

_PAIR = {"lora_a", "lora_b"}
_LAYERS = "trunk/layers/"


@dataclasses.dataclass(frozen=True)
class LoRA:
    """Low-rank adaptation (Hu et al. 2021): which matrices change, and how much."""

    # r, columns of A; Hu et al. try 1 to 64, and 4 or 8 suffice in most of their tables
    rank: int = 16
    # α: a change is multiplied by α / rank; 2 rank is a custom of practice
    alpha: float = 32.0
    # regular expression, searched for in the path of a kernel of the layers, such as
    # "attention/(query|value)"; all of them: Dettmers et al. 2023 (QLoRA), section 4
    targets: str = r"(attention|mlp)/"
    # rate on what A reads, in training alone; QLoRA: 0.1 up to 13B, 0.05 above
    dropout: float = 0.0
    # α / √rank instead, which keeps the size of a change as the rank grows
    # (Kalajdzievski 2023)
    rslora: bool = False
    # what the matrices of the frozen base are kept in; vectors stay float32
    base_dtype: str = "bfloat16"

    @property
    def scale(self) -> float:
        """s of x W + s (x A) B."""
        return self.alpha / (self.rank**0.5 if self.rslora else self.rank)

    def problems(self) -> Iterator[str]:
        """What cannot work, one line each."""
        if self.rank < 1:
            yield f"rank: {self.rank}, expected 1 or more"
        if not self.alpha > 0:
            yield f"alpha: {self.alpha}, expected more than 0"
        if not 0 <= self.dropout < 1:
            yield f"dropout: {self.dropout} is not in [0, 1)"
        if self.base_dtype not in DTYPES:
            yield f"base_dtype: {self.base_dtype!r} is not one of {', '.join(DTYPES)}"
        try:
            re.compile(self.targets)
        except re.error as error:
            yield f"targets: {self.targets!r} is not a regular expression: {error}"

    def same_function(self, other: "LoRA") -> bool:
        """Whether an adapter of the one is an adapter of the other."""
        return dataclasses.replace(self, dropout=0.0) == dataclasses.replace(
            other, dropout=0.0
        )


def base_params(params: dict, dtype: str) -> dict:
    """Parameters as a frozen base keeps them: no head, matrices in `dtype`.

    Args:
      params: of a `LanguageModel` or a `ScalarModel`.
      dtype: see `LoRA.base_dtype`.

    Raises:
      InputError: an encoder, which has no trunk.
    """
    if "trunk" not in params:
        raise InputError("adapter: only decoders have adapters, this is an encoder")
    kept = {name: part for name, part in params.items() if name != "head"}
    return cast_matrices(kept, dtype)


def init_adapter(config: LoRA, base: dict, key: PRNGKeyArray) -> dict:
    """A fresh adapter, which changes nothing: A uniform, B zero; float32.

        A ~ U(-1/√I, 1/√I),  I the width of what the matrix reads

    Args:
      config: of the adapter.
      base: parameters, layers stacked; shapes will do under `jax.eval_shape`.
      key: typed key; each matrix draws by its own path.

    Raises:
      InputError: no kernel of the layers is among the targets, or the rank is not
        below both sides of one.

    Source: Hu et al. 2021, section 4.1 (B zero); the distribution of A is that of
    Hugging Face's PEFT (the paper says Gaussian, without a width).
    """
    adapter: dict = {}
    for path, shape in targets(config, base).items():
        layers, rows, columns = shape
        if config.rank >= min(rows, columns):
            raise InputError(
                f"adapter.rank: {config.rank} is not below both sides of {path} "
                f"[{rows}, {columns}]: train it whole"
            )
        own = jax.random.fold_in(key, zlib.crc32(path.encode()))
        bound = rows**-0.5
        pair = {
            "lora_a": jax.random.uniform(
                own, (layers, rows, config.rank), minval=-bound, maxval=bound
            ),
            "lora_b": jnp.zeros((layers, config.rank, columns)),
        }
        _put(adapter, path, pair)
    return adapter


def targets(config: LoRA, base: dict) -> dict[str, tuple[int, int, int]]:
    """Path of each kernel that the adapter changes -> its shape [L, I, O].

    Raises:
      InputError: there is none.
    """
    kernels = {
        path: leaf.shape
        for path, leaf in leaf_paths(base).items()
        if path.startswith(_LAYERS) and path.endswith("/kernel") and len(leaf.shape) > 2
    }
    found = {p: shape for p, shape in kernels.items() if re.search(config.targets, p)}
    if not found:
        names = ", ".join(path.removeprefix(_LAYERS) for path in kernels)
        raise InputError(
            f"adapter.targets: {config.targets!r} is found in no matrix; there are "
            f"{names or 'none that are stacked over layers'}"
        )
    return found


def adapted(
    base: dict, adapter: dict, config: LoRA, rng: PRNGKeyArray | None = None
) -> dict:
    """One tree of parameters of a base and an adapter, without a copy of either.

    Args:
      base: frozen parameters, layers stacked.
      adapter: of `init_adapter`, and what else is trained, such as a head.
      config: of the adapter.
      rng: for training with `config.dropout`; None: no dropout.

    Returns:
      Parameters for `model.apply`, `generate`, `unstack_layers` and the like; an
      unembedding is left out where there is a head.
    """

    def laid(node: Any, change: Any, path: str) -> Any:
        if _is_pair(change):
            return _low_rank(node, change, config, rng, path)
        if not isinstance(change, Mapping):
            return change
        node = {} if node is None else node
        inner = {
            k: laid(node.get(k), part, f"{path}/{k}") for k, part in change.items()
        }
        return {**node, **inner}

    whole = laid(base, adapter, "")
    if "head" in whole:
        whole.pop("unembedding", None)
    return whole


def _low_rank(kernel, pair, config: LoRA, rng, path: str) -> LowRank:
    keys = None
    if rng is not None and config.dropout > 0:
        own = jax.random.fold_in(rng, zlib.crc32(path.encode()))
        keys = jax.random.split(own, kernel.shape[0])
    a, b = pair["lora_a"], pair["lora_b"]
    return LowRank(kernel, a, b, keys, scale=config.scale, dropout=config.dropout)


def adapter_of(params: dict) -> dict:
    """The adapter in a tree of `adapted`; an adapter is given back as it is."""

    def part(node: Any, name: str = "") -> Any:
        if isinstance(node, LowRank):
            return {"lora_a": node.lora_a, "lora_b": node.lora_b}
        if not isinstance(node, Mapping):
            return None
        if _is_pair(node) or name == "head":
            return dict(node)
        found = {key: part(inner, key) for key, inner in node.items()}
        return {key: inner for key, inner in found.items() if inner} or None

    return part(params) or {}


def with_changes(params: dict, adapter: dict) -> dict:
    """A tree of `adapted` with another adapter of the same kind in its place."""

    def laid(node: Any, change: Any) -> Any:
        if _is_pair(change):
            return dataclasses.replace(node, **change)
        if not isinstance(change, Mapping):
            return change
        return {**node, **{k: laid(node[k], part) for k, part in change.items()}}

    return laid(params, adapter)


def merged(params: dict) -> dict:
    """Parameters of `adapted` with every change added to its matrix: W + s A B.

    In the dtypes of the base. Others are given back as they are.
    """
    return jax.tree.map(
        lambda node: node.merged if isinstance(node, LowRank) else node,
        params,
        is_leaf=lambda node: isinstance(node, LowRank),
    )


def _is_pair(node: Any) -> bool:
    return isinstance(node, Mapping) and set(node) == _PAIR


def _put(tree: dict, path: str, value: Any) -> None:
    *parents, last = path.split("/")
    for name in parents:
        tree = tree.setdefault(name, {})
    tree[last] = value
