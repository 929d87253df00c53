"""Adapters in the layout of Hugging Face's PEFT, both ways.

    adapter_config.json         rank, alpha, which modules, the name of the base
    adapter_model.safetensors   base_model.model.<module>.lora_A.weight [r, in]
                                base_model.model.<module>.lora_B.weight [out, r]

Where a family holds query, key and value in one matrix (GPT-2, GPT-NeoX), our three
adapters become one of three times the rank, with B in blocks; `rank_pattern` and
`alpha_pattern` say so, and reading takes it apart again.
"""

import json
import pathlib
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rlhf_jax.errors import InputError
from rlhf_jax.models.adapters import LoRA
from rlhf_jax.models.config import TrunkConfig
from rlhf_jax.models.export import hf_config
from rlhf_jax.models.families import FAMILIES, Family, Row, ours_of, theirs_of
from rlhf_jax.models.pretrained import leaf_paths
from rlhf_jax.models.weights import Weights, open_file, read_json, write_file

__all__ = ["load_peft", "save_peft"]

CONFIG, FILE = "adapter_config.json", "adapter_model.safetensors"
_ROOT = "base_model.model."
_LAYERS = "trunk/layers/"
# settings of theirs that change what is computed -> what we can read
_READABLE = {
    "peft_type": "LORA",
    "bias": "none",
    "use_dora": False,
    "layers_to_transform": None,
    "trainable_token_indices": None,
    "exclude_modules": None,
}


def save_peft(
    directory: str | pathlib.Path,
    config: TrunkConfig,
    lora: LoRA,
    adapter: dict,
    base: str,
    *,
    family: str | None = None,
) -> pathlib.Path:
    """Writes an adapter that PEFT loads onto the exported base.

    Args:
      directory: made when absent.
      config: of the trunk.
      lora: of the adapter.
      adapter: of `models.init_adapter`; a head is written as "score", whose bias
        transformers' heads lack: PEFT leaves it out.
      base: name of the base: a transformers directory or a hub name.
      family: `model_type` of the base; None: the first that can express the config.

    Returns:
      The directory.

    Raises:
      InputError: no family can express the config.
    """
    directory = pathlib.Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    head = adapter.get("head")
    name = hf_config(config, family, "lm" if head is None else "scalar")["model_type"]
    tensors, ranks = {}, {}
    for module, row, pairs in _modules(FAMILIES[name], config, lora, adapter):
        a, b = _joined(pairs, row, config)
        tensors[f"{_ROOT}{module}.lora_A.weight"] = a
        tensors[f"{_ROOT}{module}.lora_B.weight"] = b
        ranks[_suffix(row)] = a.shape[0]
    if head is not None:
        tensors[f"{_ROOT}score.weight"] = np.asarray(head["kernel"], np.float32).T
        tensors[f"{_ROOT}score.bias"] = np.asarray(head["bias"], np.float32)
    tensors = {key: np.ascontiguousarray(array) for key, array in tensors.items()}
    write_file(directory / FILE, tensors)
    text = json.dumps(_written(lora, ranks, name, base, head), indent=2)
    (directory / CONFIG).write_text(text + "\n")
    return directory


def _modules(family: Family, config: TrunkConfig, lora: LoRA, adapter: dict):
    """(name of a module, its row, {leaf: (A [I, r], B [r, O])} of one layer)."""
    leaves = leaf_paths(adapter)
    for row in family.rows:
        found = [path for path in row.ours if f"{path}/lora_a" in leaves]
        for layer in range(config.num_layers) if found else ():
            pairs = {
                path: tuple(
                    np.asarray(leaves[f"{path}/lora_{part}"][layer], np.float32)
                    for part in "ab"
                )
                for path in found
            }
            theirs = row.theirs.removesuffix(".weight").format(l=layer)
            yield family.prefix + theirs, row, pairs


def _joined(pairs: dict, row: Row, config: TrunkConfig) -> tuple[Any, Any]:
    """A [r, in] and B [out, r] of one module of theirs."""
    a = np.concatenate([pair[0].T for pair in pairs.values()])
    blocks, start = [], 0
    for path in row.ours:
        b = np.zeros((len(a), _width(path, config)), np.float32)
        if path in pairs:
            rank = pairs[path][1].shape[0]
            b[start : start + rank] = pairs[path][1]
            start += rank
        blocks.append(b)
    b = theirs_of(blocks, row, config)
    # of a Linear [out, in] already; of GPT-2's Conv1D [in, out]
    return a, b if row.layout in ("transposed", "per_head") else b.T


def _width(path: str, config: TrunkConfig) -> int:
    """Columns of a kernel."""
    heads = {"query": config.num_heads, "key": config.num_kv_heads}
    heads["value"] = config.num_kv_heads
    name = path.split("/")[-2]
    if name in heads:
        return heads[name] * config.head_dim
    return config.mlp_dim if name in ("up", "gate") else config.embed_dim


def _suffix(row: Row) -> str:
    """How PEFT is told a module: `self_attn.q_proj`."""
    return ".".join(row.theirs.removesuffix(".weight").split(".")[-2:])


def _written(lora: LoRA, ranks: dict, family: str, base: str, head: Any) -> dict:
    other = {name: rank for name, rank in ranks.items() if rank != lora.rank}
    root = 0.5 if lora.rslora else 1.0
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM" if head is None else "SEQ_CLS",
        "base_model_name_or_path": base,
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "lora_dropout": lora.dropout,
        "use_rslora": lora.rslora,
        "target_modules": sorted(ranks),
        "rank_pattern": other,
        "alpha_pattern": {
            name: lora.alpha * (rank / lora.rank) ** root
            for name, rank in other.items()
        },
        "fan_in_fan_out": family == "gpt2",
        "modules_to_save": None if head is None else ["score"],
        "bias": "none",
        "inference_mode": True,
        "init_lora_weights": True,
    }


def load_peft(
    directory: str | pathlib.Path, config: TrunkConfig, *, family: str | None = None
) -> tuple[LoRA, dict]:
    """Reads an adapter of PEFT's.

    Modules of several ranks or scales are brought to the largest rank and one scale:
    narrower ones are filled up with zeros, and B takes what is left of the scale.

    Args:
      directory: with adapter_config.json and adapter_model.safetensors.
      config: of the base's trunk.
      family: `model_type` of the base; None: the first that can express the config.

    Returns:
      The config and the adapter, float32, layers stacked.

    Raises:
      InputError: no LoRA, a setting or a tensor that our layers do not have, a module
        that some layers lack, or damaged files.
    """
    directory = pathlib.Path(directory)
    raw = read_json(directory / CONFIG)
    for name, expected in _READABLE.items():
        if raw.get(name, expected) not in (expected, None):
            raise InputError(
                f"{directory / CONFIG}: {name} is {raw[name]!r}, expected {expected!r}"
            )
    weights = open_file(directory / FILE)
    name = hf_config(config, family, "lm")["model_type"]
    pairs, seen = {}, set()
    for row in FAMILIES[name].rows:
        if row.theirs.endswith(".weight") and "{l}" in row.theirs:
            pairs |= _read(weights, FAMILIES[name], row, config, raw, seen)
    adapter: dict = {}
    lora = _unified(raw, pairs, adapter, directory)
    _read_head(weights, adapter, seen)
    for key in weights.files.keys() - seen:
        raise InputError(f"{weights.where(key)} changes nothing that can be adapted")
    return lora, adapter


def _read(weights: Weights, family: Family, row: Row, config, raw, seen) -> dict:
    """leaf -> (A [L, I, r], B [L, r, O], scale) of the leaves of one row."""
    module = _ROOT + family.prefix + row.theirs.removesuffix(".weight")
    names = [
        [f"{module.format(l=i)}.lora_{part}.weight" for part in "AB"]
        for i in range(config.num_layers)
    ]
    there = [name in weights.files for layer in names for name in layer]
    if not any(there):
        return {}
    if not all(there):
        raise InputError(
            f"{weights.directory / FILE}: {module}: some layers have no adapter"
        )
    seen |= {name for layer in names for name in layer}
    layers = [[weights.read(name) for name in layer] for layer in names]
    rank = layers[0][0].shape[0]
    made = {}
    for path in row.ours:
        parts = [_part(a, b, row, path, config) for a, b in layers]
        a, b = (np.stack(side).astype(np.float32) for side in zip(*parts, strict=True))
        used = np.abs(b).sum(axis=(0, 2)) > 0  # rows of B that are another leaf's
        if len(row.ours) > 1 and used.any():
            a, b = a[:, :, used], b[:, used]
        made[path] = (a, b, _scale(raw, module, rank))
    return made


def _part(a: Any, b: Any, row: Row, path: str, config: TrunkConfig) -> tuple[Any, Any]:
    """(A [I, r], B [r, O]) of a leaf, of one layer of theirs."""
    if row.layout in ("same", "columns"):
        b = b.T
    return a.T, ours_of(b, row, path, config)


def _scale(raw: dict, module: str, rank: int) -> float:
    """What PEFT multiplies the change of a module by."""
    alpha = raw["lora_alpha"]
    for pattern, value in (raw.get("alpha_pattern") or {}).items():
        if re.fullmatch(rf"(.*\.)?({pattern})", module):
            alpha = value
    return alpha / (rank**0.5 if raw.get("use_rslora") else rank)


def _unified(raw: dict, pairs: dict, adapter: dict, where: pathlib.Path) -> LoRA:
    """One rank and one scale for all; fills `adapter`."""
    if not pairs:
        raise InputError(f"{where / FILE}: no adapter of a matrix of the layers")
    rank = max(a.shape[2] for a, _, _ in pairs.values())
    scale = next(iter(pairs.values()))[2]
    for path, (a, b, own) in pairs.items():
        more = rank - a.shape[2]
        a = np.pad(a, ((0, 0), (0, 0), (0, more)))
        b = np.pad(b * np.float32(own / scale), ((0, 0), (0, more), (0, 0)))
        node = adapter
        for name in path.split("/"):
            node = node.setdefault(name, {})
        node |= {"lora_a": jnp.asarray(a), "lora_b": jnp.asarray(b)}
    names = "|".join(
        path.removeprefix(_LAYERS).removesuffix("/kernel") for path in pairs
    )
    rslora = bool(raw.get("use_rslora", False))
    return LoRA(
        rank=rank,
        alpha=scale * (rank**0.5 if rslora else rank),
        targets=f"layers/({names})/kernel$",
        dropout=float(raw.get("lora_dropout", 0.0)),
        rslora=rslora,
    )


def _read_head(weights: Weights, adapter: dict, seen: set) -> None:
    name, bias = f"{_ROOT}score.weight", f"{_ROOT}score.bias"
    if name not in weights.files:
        return
    kernel = weights.read(name).astype(np.float32).T
    seen |= {name, bias} & weights.files.keys()
    free = weights.read(bias) if bias in weights.files else np.zeros(1, np.float32)
    head = {"kernel": kernel, "bias": free.astype(np.float32)}
    adapter["head"] = jax.tree.map(jnp.asarray, head)
