"""`rlhf-jax simulate DIR`: the embedded world as files, or some of it to read."""

import argparse
import math
import pathlib

NEWLINE = "\n"
HELP = "write the embedded world's prompts, demonstrations, rankings and corpus"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments of the command."""
    parser.add_argument(
        "directory", nargs="?", type=pathlib.Path, help="where the files go"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the world (default 0)")
    parser.add_argument(
        "--show", type=int, default=0, metavar="N",
        help="print N prompts with a demonstration and ranked candidates",
    )  # fmt: skip
    parser.add_argument(
        "--scale", type=float, default=1.0,
        help="multiplies the number of rows of every set (default 1)",
    )  # fmt: skip
    parser.add_argument(
        "--vocab-size", type=int, default=None, help="pieces of the BPE"
    )


def run(args: argparse.Namespace) -> int:
    """Writes the files and prints what they hold, or shows examples."""
    from rlhf_jax.errors import InputError

    if args.directory is None and not args.show:
        raise InputError("name a directory to write to, or --show N")
    if not 0 < args.scale < math.inf:
        raise InputError(f"--scale: expected a number above 0, got {args.scale}")
    if args.show < 0:
        raise InputError(f"--show: expected 0 or more, got {args.show}")
    if args.vocab_size is not None and args.vocab_size < 258:
        raise InputError(f"--vocab-size: expected 258 or more, got {args.vocab_size}")
    if args.show:
        show(args.seed, args.show)
    if args.directory is not None:
        try:
            args.directory.mkdir(parents=True, exist_ok=True)
            write_files(args)
        except FileExistsError as error:
            raise InputError(f"{args.directory}: is not a directory") from error
        except OSError as error:
            where = error.filename or args.directory
            raise InputError(f"{where}: {error.strerror or error}") from error
    return 0


def write_files(args: argparse.Namespace) -> None:
    """Writes every set and prints a line for each file."""
    from rich.console import Console

    from rlhf_jax.simulation import SIZES, VOCAB_SIZE, write

    sizes = {name: max(1, round(count * args.scale)) for name, count in SIZES.items()}
    vocab_size = args.vocab_size or VOCAB_SIZE
    paths = write(args.directory, args.seed, sizes, vocab_size=vocab_size)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    for name, path in paths.items():
        rows = "" if path.is_dir() else f"{path.read_text().count(NEWLINE):,} rows"
        console.print(f"{name:<18} {rows:>13}  {path}")


def show(seed: int, count: int) -> None:
    """Prints prompts, each with a demonstration and ranked candidates."""
    from rich.console import Console
    from rich.panel import Panel
    from rich.text import Text

    from rlhf_jax.simulation import make_world
    from rlhf_jax.simulation.dataset import demonstrate, prompt_set, rank_candidates
    from rlhf_jax.simulation.labelers import training_labelers

    console = Console(highlight=False, markup=False)
    for prompt in prompt_set(make_world(seed), "shown", count, set()):
        title = f"{prompt.use_case} · {prompt.kind} · {prompt.user}"
        console.print(
            Panel(Text(prompt.prompt.rstrip()), title=title, title_align="left")
        )
        demonstration = demonstrate(prompt, seed)
        console.print(Text(f"  demonstration ({demonstration.meta['style']})", "bold"))
        console.print(Text(indented(demonstration.response), "green"))
        ranking = rank_candidates(prompt, training_labelers(seed), seed)
        console.print(Text(f"  ranked by {ranking.labeler}", "bold"))
        console.print(ranked_table(prompt, ranking))


def ranked_table(prompt, ranking):
    """The candidates of a ranking, best first, with what they are worth."""
    from rich.table import Table

    from rlhf_jax.simulation.utility import CRITERIA, utility

    table = Table(box=None, padding=(0, 1), show_edge=False)
    for name in ("rank", "likert", "utility"):
        table.add_column(name, justify="right")
    table.add_column("response", ratio=1)
    table.add_column("lacks")
    for k in sorted(range(len(ranking.ranks)), key=ranking.ranks.__getitem__):
        worth = utility(prompt, ranking.responses[k])
        lacks = [name for name in CRITERIA if getattr(worth, name) < 0.995]
        table.add_row(
            str(ranking.ranks[k]), str(ranking.likert[k]), f"{worth.total:.2f}",
            ranking.responses[k] or "(nothing)", ", ".join(lacks),
        )  # fmt: skip
    return table


def indented(text: str) -> str:
    """The text four columns in."""
    return "\n".join(f"    {line}" for line in text.splitlines())
