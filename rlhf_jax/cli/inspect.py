"""`rlhf-jax inspect`: the parameters of a checkpoint, leaf by leaf."""

import argparse
import math

HELP = "list a model's parameters: path, shape, dtype, count, sharding"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's options."""
    parser.add_argument("model", help="a directory with config.json, or a hub name")
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

    from rlhf_jax.models import leaf_paths, load_pretrained, pretrained_shapes
    from rlhf_jax.parallel import make_mesh, parse_mesh, shardings

    sizes = parse_mesh(args.mesh)
    if -1 not in sizes.values():  # fewer devices than there are will do
        count = math.prod(sizes.values())
        mesh = make_mesh(**sizes, devices=jax.devices()[:count])
    else:
        mesh = make_mesh(**sizes)
    if args.read:
        load_pretrained(args.model, dtype=args.dtype)
    found = pretrained_shapes(args.model, dtype=args.dtype)
    places = leaf_paths(shardings(found.params, mesh))
    rows = [
        (path, str(list(leaf.shape)), str(leaf.dtype), f"{leaf.size:,}")
        + (str(places[path].spec),)
        for path, leaf in leaf_paths(found.params).items()
    ]
    print(f"{args.model}: {found.family}, {found.kind}, {found.config}\n")
    _print_table([("path", "shape", "dtype", "count", "sharding"), *rows])
    leaves = jax.tree.leaves(found.params)
    total = sum(leaf.size for leaf in leaves)
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    print(f"\n{total:,} parameters, {size / 2**20:,.1f} MiB")
    return None


def _print_table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        print("  ".join(cells).rstrip())
