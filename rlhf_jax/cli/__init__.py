"""The `rlhf-jax` command: one thin file per sub-command.

A sub-command is a module of this room with `HELP` (one line),
`add_arguments(parser)` and `run(args) -> int | None`. Modules load only when their
command is named, so `rlhf-jax --help` answers at once.
"""

import argparse
import ast
import contextlib
import importlib
import os
import pathlib
import sys

from rlhf_jax import __version__
from rlhf_jax.cli.ending import at_once, told
from rlhf_jax.cli.kept_programs import keep_programs
from rlhf_jax.errors import RunError

__all__ = ["main"]


def command_help() -> dict[str, str]:
    """Command name -> its one-line help, read from the source without importing it."""
    found = {}
    for path in sorted(pathlib.Path(__file__).parent.glob("*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "HELP":
                found[path.stem] = ast.literal_eval(node.value)
    return found


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns its exit code.

    Args:
      argv: the words after `rlhf-jax`; the process's own when None.

    Returns:
      0 when done; 2 for bad input and for what the system refuses, 3 for a numerics
      abort, 4 when no checkpoint is usable, 143 when preempted (`rlhf_jax.errors`), 130
      when interrupted; 141 when nobody reads on.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    with at_once("rlhf-jax run") if argv[:1] == ["run"] else contextlib.nullcontext():
        return _ended(argv)


def _ended(argv: list[str]) -> int:
    """The exit code of a command, however it ends."""
    name = " ".join(["rlhf-jax", *argv[:1]])
    try:
        return _run(argv)
    except RunError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        print(f"{name}: {told(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return 130


def _run(argv: list[str]) -> int:
    helps = command_help()
    if not argv or argv[0] in {"-h", "--help"}:
        print(usage(helps))
        return 0 if argv else 2
    if argv[0] == "--version":
        print(f"rlhf-jax {__version__}")
        return 0
    name, rest = argv[0], argv[1:]
    if name not in helps:
        print(f"rlhf-jax: no command {name!r}\n\n{usage(helps)}", file=sys.stderr)
        return 2
    command = importlib.import_module(f"{__name__}.{name}")
    parser = argparse.ArgumentParser(f"rlhf-jax {name}", description=command.HELP)
    command.add_arguments(parser)
    parser.add_argument(
        "--no-cache", action="store_true", help="compile anew, and keep no programs"
    )
    split = getattr(command, "split_overrides", lambda words: (words, []))
    own, overrides = split(rest)
    args = parser.parse_args(own, argparse.Namespace(overrides=overrides))
    keep_programs(not args.no_cache)
    code = command.run(args) or 0
    sys.stdout.flush()
    return code


def usage(helps: dict[str, str]) -> str:
    """The text of `rlhf-jax --help`."""
    width = max(map(len, helps), default=0)
    rows = [f"  {name:<{width}}  {text}" for name, text in helps.items()]
    return "\n".join(
        [
            "usage: rlhf-jax COMMAND [options]",
            "",
            *rows,
            "",
            "COMMAND --help tells more",
        ]
    )
