"""`rlhf-jax inspect`: the parameters of a checkpoint, leaf by leaf."""

import argparse
import dataclasses
import math
import pathlib
from typing import Any

from rlhf_jax.errors import InputError

HELP = "list a model's parameters: path, shape, dtype, count, sharding"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    parser.add_argument("model", help="directory of a stage or a model, or a hub name")
    parser.add_argument("--dtype", help="of the parameters once read (float32)")
    parser.add_argument(
        "--mesh",
        default="1,1,1",
        help="data,fsdp,tensor sizes, or 'auto': shows how leaves would be cut",
    )
    parser.add_argument(
        "--read", action="store_true", help="read every number too, and check it"
    )


def run(args: argparse.Namespace) -> int | None:
    """Prints one row per leaf and the total."""
    import jax

    from rlhf_jax.models import leaf_paths
    from rlhf_jax.parallel import make_mesh, parse_mesh, shardings

    sizes = parse_mesh(args.mesh)
    if -1 not in sizes.values():  # fewer devices than there are will do
        count = math.prod(sizes.values())
        mesh = make_mesh(**sizes, devices=jax.devices()[:count])
    else:
        mesh = make_mesh(**sizes)
    told, params, members = _described(args.model, args.dtype, read=args.read)
    places = leaf_paths(shardings(params, mesh))
    rows = [
        (path, str(list(leaf.shape)), str(leaf.dtype), f"{leaf.size:,}")
        + (str(places[path].spec),)
        for path, leaf in leaf_paths(params).items()
    ]
    print(f"{args.model}: {told}\n")
    _print_table([("path", "shape", "dtype", "count", "sharding"), *rows])
    leaves = jax.tree.leaves(params)
    total = sum(leaf.size for leaf in leaves)
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    each = f" in each of {members} members" if members > 1 else ""
    print(f"\n{total:,} parameters, {size / 2**20:,.1f} MiB{each}")
    return None


def _described(name: str, dtype: str | None, *, read: bool) -> tuple[str, Any, int]:
    """(what it is, shapes of the parameters, how many models of these shapes)."""
    import jax

    from rlhf_jax.models import (
        abstract_params,
        encoder_shapes,
        is_encoder,
        load_encoder,
        load_pretrained,
        pretrained_shapes,
    )
    from rlhf_jax.registry import ensemble, load_reward_model
    from rlhf_jax.registry.directories import (
        ENSEMBLE,
        described_adapter,
        kind_of_model,
        load_model,
        model_directory,
        read_description,
    )

    path = pathlib.Path(model_directory(name))
    if (path / ENSEMBLE).is_file():
        if dtype is not None:
            raise InputError(f"{name}: --dtype is not for an ensemble")
        loaded = load_reward_model(path)
        first = ensemble.first_member(loaded)
        members = loaded.meta["members"]
        told = f"ensemble of {members}, scalar, {first.model.config}"
        return told, first.params, members
    if (path / "model.json").is_file():
        model, meta = read_description(path)
        if dtype is not None:
            config = dataclasses.replace(model.config, dtype=dtype)
            model = type(model)(config)
        if read:
            load_model(path, dtype=dtype)
        kind = kind_of_model(model)
        told = f"{meta.get('stage', 'model.json')}, {kind}, {model.config}"
        if (adapter := described_adapter(path)) is not None:
            base = adapter["base"]["source"]
            told = f"adapter {adapter['lora']} of {base}, {told}"
        return told, abstract_params(model, dtype or "float32"), 1
    if path.is_dir() and not (path / "config.json").is_file():
        raise InputError(f"{name}: neither model.json nor config.json is there")
    if is_encoder(name):
        if dtype is not None:
            raise InputError(f"{name}: --dtype is not for a BERT, which is float32")
        if read:
            load_encoder(name, jax.random.key(0))
        found = encoder_shapes(name)
        return f"bert, encoder, {found.config}", found.params, 1
    if read:
        load_pretrained(name, dtype=dtype)
    found = pretrained_shapes(name, dtype=dtype)
    return f"{found.family}, {found.kind}, {found.config}", found.params, 1


def _print_table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        print("  ".join(cells).rstrip())
