"""One of two processes that run one experiment: `... RANK PORT DIRECTORY`.

Prints what was said; in the end both are given directories of their own.
"""

import dataclasses
import pathlib
import sys
import types

import jax

from rlhf_jax import stages
from rlhf_jax.errors import InputError
from rlhf_jax.parallel import start_distributed
from rlhf_jax.pipeline import experiment as experiments
from rlhf_jax.pipeline.runner import run_experiment

MODULE = "rlhf_jax.stages.fake"


@dataclasses.dataclass
class Config:
    source: str = ""
    text: str = "x"


def run(config, workdir, settings):
    print(f"ran {workdir.name} {config.text}")
    if jax.process_index() == 0:
        (workdir / "out.txt").write_text(config.text)
    return workdir / "out.txt"


def install():
    Config.__module__ = MODULE
    module = types.ModuleType(MODULE)
    module.Config, module.run = Config, run
    sys.modules[MODULE] = module
    stages.KINDS = experiments.KINDS = (*stages.KINDS, "fake")


def main(rank, port, directory):
    start_distributed(
        "on", coordinator=f"localhost:{port}", num_processes=2, process_id=int(rank)
    )
    install()
    same = pathlib.Path(directory, "same")

    def once(text, workdir=same):
        made = {"one": Config(), "two": Config("@one/out.txt", text)}
        run_experiment(experiments.Experiment("x", made), workdir)

    once("a")
    once("a")
    once("b")
    once("a")
    if rank == "0":
        (same / "two/out.txt").write_text("damaged")
    once("a")
    for what in (
        lambda: once("a", pathlib.Path(directory, f"own_{rank}")),
        lambda: once(f"of {rank}"),
    ):
        try:
            what()
        except InputError as error:
            print(f"refused: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
