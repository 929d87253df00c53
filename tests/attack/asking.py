"""The commands of a person, asked in this process about a run that was damaged.

Each gives one word, and a word is enough only where it is no silence:

    again      `run` makes the stage again, and says so
    refused    one clear error of ours
    warned     it goes on, and says aloud what is wrong
    rewritten  `run` writes the file anew, with the bytes it had: an output, no input
    same       what is read out of the file is what was read before
    no input   no command reads it
    SILENT     none of these
"""

import hashlib
import io
import json
import logging
import pathlib
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from unittest import mock

import jax
import numpy as np
import small_run

from rlhf_jax.checkpoints.catalogue import Catalogue
from rlhf_jax.cli.report import make_reports
from rlhf_jax.errors import RunError
from rlhf_jax.pipeline import runner
from rlhf_jax.registry import load_model

# written by a run, read by no command
NO_INPUT = (".locks/",)


class Again(Exception):
    """A stage runs again; it need not, to be seen."""


@contextmanager
def listening():
    """What is logged meanwhile, as a list of lines."""
    lines: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = logging.getLogger("rlhf_jax")
    logger.addHandler(handler)
    logger.propagate = False
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            yield lines
    finally:
        logger.removeHandler(handler)
        logger.propagate = True


def run_again(workdir: pathlib.Path) -> str | None:
    """`rlhf-jax run` once more: "again", "refused", or None: all is done before."""

    class Stage:
        @staticmethod
        def run(config, folder, settings):
            raise Again

    with listening(), mock.patch.object(runner, "module_of", lambda kind: Stage):
        try:
            runner.run_experiment(
                small_run.experiment(), workdir, say=lambda text: None
            )
        except Again:
            return "again"
        except RunError:
            return "refused"
    return None


def loaded(folder: pathlib.Path) -> str:
    """All that `chat`, `eval` and `export` get of a model, as a hash."""
    found = load_model(folder)
    parts = [repr(found.model.config), json.dumps(found.meta, sort_keys=True)]
    tokenizer = found.tokenizer
    parts += [tokenizer.backend.to_str(), repr(tokenizer.config)]
    parts += [repr((tokenizer.end_tokens, tokenizer.pad_token, tokenizer.generation))]
    digest = hashlib.sha256("\0".join(parts).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(found.params):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()


def load(folder: pathlib.Path, before: str) -> str:
    """`chat`, `eval`, `export` of a model: "refused", "warned", "same" or "SILENT"."""
    with listening() as said:
        try:
            after = loaded(folder)
        except RunError:
            return "refused"
    return "same" if after == before else "warned" if said else "SILENT"


def report(workdir: pathlib.Path, pages: dict[str, bytes]) -> str:
    """`rlhf-jax report`: "refused", "same" pages or "SILENT"."""
    with listening():
        try:
            make_reports(workdir)
        except RunError:
            return "refused"
    return "same" if read_pages(workdir) == pages else "SILENT"


def read_pages(workdir: pathlib.Path) -> dict[str, bytes]:
    """The pages beside the stages."""
    return {path.name: path.read_bytes() for path in workdir.glob("*.html")}


def resume(folder: pathlib.Path, step: int) -> str:
    """What a cut stage would go on from: "refused" (an earlier step, aloud, or none)
    or "same", where the step is whole."""
    with listening():
        try:
            chosen = Catalogue(folder).choose(None, lambda path, manifest: None)
        except RunError:
            return "refused"
    return "same" if chosen == step else "refused"
