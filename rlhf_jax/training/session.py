"""What every stage that trains has around it: mesh, checkpoints, metrics, guards."""

import contextlib
import dataclasses
import json
import logging
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import Mesh

from rlhf_jax.checkpoints import CheckpointStore
from rlhf_jax.data import Stream
from rlhf_jax.data.account import Account, row_metrics, told
from rlhf_jax.errors import InputError
from rlhf_jax.fields import leaves
from rlhf_jax.parallel import compile_update, unrepeatable
from rlhf_jax.storage import (
    decided,
    is_first_process,
    require_no_links,
    require_one_directory,
    write_json,
)
from rlhf_jax.tracking import RunDirectory, RunTracker, read_metrics
from rlhf_jax.training import (
    Guards,
    OptimizerConfig,
    Watchdog,
    first_loss_scale,
    init_state,
    make_optimizer,
    make_update,
    resume_or_init,
    training_rows,
)
from rlhf_jax.training.alarms import DEFAULT_ALARMS, Alarm
from rlhf_jax.training.identity import code_of, portable, run_of
from rlhf_jax.training.rows import Rows, Run
from rlhf_jax.training.settings import RunSettings

__all__ = [
    "Rows",
    "Run",
    "RunSettings",
    "Session",
    "fit",
    "open_session",
    "portable",
    "tell_rows",
]

logger = logging.getLogger("rlhf_jax.training")


@dataclasses.dataclass
class Session:
    """The mesh of one stage, and its open run directory where there is one."""

    workdir: pathlib.Path | None
    settings: RunSettings
    mesh: Mesh
    store: CheckpointStore | None
    tracker: RunTracker | None
    guards: Guards
    # of the rows that are trained on; metrics of the first step
    numbers: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def loop(
        self,
        step_fn: Callable,
        init: Callable[..., Any],
        *args: Any,
        steps: int,
        **options: Any,
    ) -> Rows:
        """Resumes or starts and runs to `steps`: metrics as they come, then the state.

        Args:
          step_fn: `(state, step) -> (state, metrics)`.
          init: pure function of `args` to the fresh state.
          *args: arrays, such as loaded parameters and a key.
          steps: of the whole run.
          **options: for `training_rows`.

        Yields:
          (steps completed, metrics).

        Returns:
          The last state.

        Raises:
          InputError: the checkpoint is of another run, or of a later step than the
            last.
        """
        state, start = resume_or_init(
            init, *args, mesh=self.mesh, store=self.store, tracker=self.tracker
        )
        if start > steps:
            raise InputError(
                f"{self.workdir}: {start} steps are done, {steps} are asked for: a run "
                "can be made longer, not shorter; take another directory"
            )
        if self.workdir is not None:
            self._recall(start)
        hang = self.settings.hang_seconds

        def step(state: Any, index: int) -> tuple[Any, dict]:
            state, metrics = step_fn(state, index)
            return state, metrics if index else {**metrics, **self.numbers}

        return training_rows(
            step,
            state,
            steps,
            start_step=start,
            store=self.store,
            tracker=self.tracker,
            save_every=self.settings.save_every,
            guards=self.guards,
            fetch_every=self.settings.fetch_every,
            watchdog=hang and Watchdog(floor=hang, patience=4 * hang),
            **options,
        )

    def _recall(self, start: int) -> None:
        """What was logged up to a step, to the guards; one decision for all processes.

        Only process 0 has the log for sure. So that alarms never differ between
        processes, none of several keeps what it recalls.
        """
        self.guards.rewind(start)
        rows = _logged(self.workdir / "metrics.jsonl", start)
        if is_first_process() and (missing := start - len(rows)):
            logger.warning(
                "%s: metrics.jsonl lacks %d of the %d steps before the checkpoint: "
                "curves and alarms go on without them",
                self.workdir,
                missing,
                start,
            )
        decided(lambda: self.guards.recall(rows))
        if jax.process_count() > 1:
            self.guards.forget()


@contextlib.contextmanager
def open_session(
    workdir: str | pathlib.Path | None,
    settings: RunSettings,
    *,
    alarms: tuple[Alarm, ...] = (),
    batch_ids: Callable[[int], Any] | None = None,
    identity: Any = None,
    functions: Mapping[str, Callable] | None = None,
    steps: int | None = None,
    accounts: Iterable[Account] = (),
) -> Iterator[Session]:
    """Opens a stage's directory; checkpoints and metrics are closed on leaving.

    Args:
      workdir: of the stage; None: nothing is written, nothing can be continued.
      settings: how to run.
      alarms: besides the default ones.
      batch_ids: step -> names of the rows of its batch, for `bad_batches/`.
      identity: the stage's config; a checkpoint of another one is refused.
      functions: what else decides the result, by name, such as a reward function;
        compared as `identity.code_of` tells.
      steps: of the whole run; shows progress on stderr.
      accounts: what became of the rows that are trained on; told, and kept in
        rows.json and in the metrics of the first step.

    Raises:
      InputError: the directory belongs to another config, holds links, cannot be
        written, or is not one and the same for all processes.
    """
    mesh = settings.make_mesh()
    guards = Guards(
        workdir,
        alarms=(*DEFAULT_ALARMS, *alarms),
        max_skipped=settings.max_skipped,
        batch_ids=batch_ids,
    )
    if workdir is None:
        tell_rows(accounts)
        yield Session(None, settings, mesh, None, None, guards, row_metrics(accounts))
        return
    if why := unrepeatable():
        logger.warning("%s", why)
    workdir = pathlib.Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    require_one_directory(workdir)
    require_no_links(workdir)
    codes = {name: code_of(made) for name, made in (functions or {}).items() if made}
    run, by_pipeline = run_of(workdir)
    if identity is not None and not by_pipeline:
        _write_provenance(workdir, identity, codes)
    tell_rows(accounts, workdir)
    store = CheckpointStore(
        workdir / "checkpoints",
        keep_last=settings.keep_last,
        keep_every=settings.keep_every,
        identity=portable(identity, run) | codes,
    )
    tracker = RunTracker(
        workdir,
        tensorboard=settings.tensorboard,
        wandb=settings.wandb,
        total_steps=steps,
        description=workdir.name,
    )
    with contextlib.closing(store), contextlib.closing(tracker):
        numbers = row_metrics(accounts)
        yield Session(workdir, settings, mesh, store, tracker, guards, numbers)


def tell_rows(
    accounts: Iterable[Account],
    workdir: pathlib.Path | None = None,
    *,
    more: bool = False,
) -> None:
    """Says what became of rows; with a directory also in its rows.json.

    Args:
      accounts: of the rows.
      workdir: of the stage.
      more: these come after others of the same stage, which stay in the file.
    """
    accounts = list(accounts)
    if workdir is None:
        for account in accounts:
            if warning := account.warning():
                logger.warning("%s", warning)
        return
    if accounts:
        file = workdir / "rows.json"
        told_before = json.loads(file.read_text()) if more and file.exists() else []
        write_json(file, told_before + [account.as_dict() for account in accounts])
    if is_first_process():
        for line in told(accounts):
            print(line)


def _write_provenance(
    workdir: pathlib.Path, config: Any, codes: Mapping[str, str]
) -> None:
    """config.json and provenance.json, which no pipeline has written."""
    free = [leaf.key for leaf in leaves(config) if leaf.role and leaf.role.is_free]
    RunDirectory(workdir).begin(
        portable(config, workdir.parent, free=True) | codes,
        override=[f"config.{key}" for key in free],
    )


def _logged(path: pathlib.Path, last: int) -> list[tuple[int, dict[str, Any]]]:
    """(step, metrics) of the steps up to `last` that a run has logged."""
    if not last or not path.exists():
        return []
    return [(row["step"], row) for row in read_metrics(path) if row["step"] <= last]


class Training(Protocol):
    """What the config of a stage says that trains on a stream of batches.

    Attributes:
      optimizer: which, and its schedule.
      seed: root of the run's randomness (dropout).
      microbatches: parts that a batch is trained in, one after the other.
      clip_norm: largest gradient norm.
    """

    optimizer: OptimizerConfig
    seed: int
    microbatches: int
    clip_norm: float | None


def fit(
    config: Training,
    workdir: str | pathlib.Path | None,
    settings: RunSettings | None,
    loss_fn: Callable,
    params: Any,
    stream: Stream,
    steps: int,
    *,
    frozen: Any = None,
    prepare: Callable[[Any, dict, Any], dict] | None = None,
    dtype: str = "float32",
    evaluate: Callable[[Any, int], dict] | None = None,
    evaluate_every: int | None = None,
    accounts: Iterable[Account] = (),
) -> Rows:
    """Trains on a stream of batches: pretraining, SFT, the reward model, DPO.

    Args:
      config: of the stage.
      workdir: of the stage; run again with the same one to continue. None: in memory.
      settings: how to run; None: as `RunSettings` says.
      loss_fn: see `make_update`.
      params: the first params.
      stream: batches by step.
      steps: updates.
      frozen: params that the loss reads as `frozen` and no gradient reaches.
      prepare: `(params, batch, frozen) -> batch`, part of the update: adds what is
        computed of the whole batch, before it is cut into micro-batches.
      dtype: that the model computes in; float16 has its loss scaled.
      evaluate: `(params, steps completed) -> metrics`.
      evaluate_every: steps between evaluations.
      accounts: what became of further rows, such as held-out ones.

    Yields:
      (steps completed, metrics).

    Returns:
      The last params.
    """
    tx = make_optimizer(config.optimizer, steps)
    options = {}
    if evaluate is not None:
        options = {
            "evaluate": lambda state, step: evaluate(state.params, step),
            "evaluate_every": evaluate_every,
        }

    def init(params: Any, rng: Any) -> Any:
        return init_state(params, tx, rng, loss_scale=first_loss_scale(dtype))

    def step_fn(state: Any, step: int) -> tuple[Any, dict]:
        return update(state, stream.batch(step), frozen)

    with open_session(
        workdir,
        settings or RunSettings(),
        identity=config,
        batch_ids=lambda step: np.asarray(stream.batch(step)["row"]).tolist(),
        steps=steps,
        accounts=(*stream.accounts, *accounts),
    ) as session:
        update = make_update(
            loss_fn,
            tx,
            microbatches=config.microbatches,
            clip_norm=config.clip_norm,
        )
        if prepare is not None:
            update = _prepared(update, prepare)
        update = compile_update(update, session.mesh)
        if frozen is not None:
            frozen = update.place(frozen)
        rows = session.loop(
            step_fn, init, params, jax.random.key(config.seed), steps=steps, **options
        )
        del params  # the state has its own; these are as large again
        state = yield from rows
    return state.params


def _prepared(update: Callable, prepare: Callable) -> Callable:
    def step(state: Any, batch: dict, frozen: Any = None) -> tuple[Any, dict]:
        return update(state, prepare(state.params, batch, frozen), frozen)

    return step
