"""What every stage that trains has around it: mesh, checkpoints, metrics, guards."""

import contextlib
import dataclasses
import logging
import pathlib
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import Mesh

from rlhf_jax.checkpoints import CheckpointStore
from rlhf_jax.data import Stream
from rlhf_jax.errors import InputError
from rlhf_jax.fields import leaves
from rlhf_jax.parallel import compile_update, make_mesh, parse_mesh
from rlhf_jax.storage import decided, is_first_process, require_no_links
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
from rlhf_jax.training.identity import code_of, portable

__all__ = ["Run", "RunSettings", "Session", "fit", "open_session", "portable"]

# yields (steps completed, metrics), returns what is left at the end
Rows = Generator[tuple[int, dict], None, Any]


logger = logging.getLogger("rlhf_jax.training")


@dataclasses.dataclass
class RunSettings:
    """How to run, not what to compute: nothing here changes a stage's result.

    (But for rounding: another mesh adds in another order.)
    """

    # "auto", "data=2,fsdp=4" or "2,4,1" (data, fsdp, tensor); see parallel.parse_mesh
    mesh: str = "auto"
    # start jax.distributed: "auto" (when a cluster is detected), "on", "off"
    distributed: str = "auto"
    # steps (PPO: iterations) between checkpoints
    save_every: int = 100
    # newest checkpoints kept
    keep_last: int = 2
    # besides, every n-th step's checkpoint is kept for good; None: none
    keep_every: int | None = None
    # steps whose metrics are fetched from the device together
    fetch_every: int = 8
    # updates in a row with non-finite gradients that end the run
    max_skipped: int = 5
    # seconds without a finished step after which all stacks are dumped and the run
    # ends; None: no watchdog
    hang_seconds: float | None = None
    # write TensorBoard event files beside metrics.jsonl
    tensorboard: bool = True
    # Weights & Biases project; None: not used
    wandb: str | None = None

    def make_mesh(self) -> Mesh:
        """The mesh that these settings describe."""
        return make_mesh(**parse_mesh(self.mesh))

    def problems(self) -> Iterator[str]:
        """Values out of range, one line each."""
        for name in ("save_every", "keep_last", "fetch_every", "max_skipped"):
            if getattr(self, name) < 1:
                yield f"{name}: {getattr(self, name)} is not at least 1"


@dataclasses.dataclass
class Session:
    """The mesh of one stage, and its open run directory where there is one."""

    workdir: pathlib.Path | None
    settings: RunSettings
    mesh: Mesh
    store: CheckpointStore | None
    tracker: RunTracker | None
    guards: Guards

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
        return training_rows(
            step_fn,
            state,
            steps,
            start_step=start,
            store=self.store,
            tracker=self.tracker,
            save_every=self.settings.save_every,
            guards=self.guards,
            fetch_every=self.settings.fetch_every,
            watchdog=None if hang is None else Watchdog(floor=hang),
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

    Raises:
      InputError: the directory belongs to another config, holds links, or cannot be
        written.
    """
    mesh = settings.make_mesh()
    guards = Guards(
        workdir,
        alarms=(*DEFAULT_ALARMS, *alarms),
        max_skipped=settings.max_skipped,
        batch_ids=batch_ids,
    )
    if workdir is None:
        yield Session(None, settings, mesh, None, None, guards)
        return
    workdir = pathlib.Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    require_no_links(workdir)
    codes = {name: code_of(made) for name, made in (functions or {}).items() if made}
    _write_provenance(workdir, identity, codes)
    store = CheckpointStore(
        workdir / "checkpoints",
        keep_last=settings.keep_last,
        keep_every=settings.keep_every,
        identity=portable(identity, workdir.parent) | codes,
    )
    tracker = RunTracker(
        workdir,
        tensorboard=settings.tensorboard,
        wandb=settings.wandb,
        total_steps=steps,
        description=workdir.name,
    )
    with contextlib.closing(store), contextlib.closing(tracker):
        yield Session(workdir, settings, mesh, store, tracker, guards)


def _write_provenance(
    workdir: pathlib.Path, config: Any, codes: Mapping[str, str]
) -> None:
    """config.json and provenance.json, where no pipeline has written them."""
    by_pipeline = decided(lambda: int((workdir / "stage.json").exists()))
    if config is None or by_pipeline:
        return
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
    dtype: str = "float32",
    evaluate: Callable[[Any, int], dict] | None = None,
    evaluate_every: int | None = None,
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
      dtype: that the model computes in; float16 has its loss scaled.
      evaluate: `(params, steps completed) -> metrics`.
      evaluate_every: steps between evaluations.

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
    ) as session:
        update = compile_update(
            make_update(
                loss_fn,
                tx,
                microbatches=config.microbatches,
                clip_norm=config.clip_norm,
            ),
            session.mesh,
        )
        if frozen is not None:
            frozen = update.place(frozen)
        state = yield from session.loop(
            step_fn, init, params, jax.random.key(config.seed), steps=steps, **options
        )
    return state.params


class Run:
    """A training run to step through: iterate for its metrics, ask for its model.

    >>> def rows():
    ...     yield 1, {"loss": 2.0}
    ...     yield 2, {"loss": 1.5}
    ...     return "the state"
    >>> run = Run(rows(), lambda state: f"the model of {state}")
    >>> [(row["step"], row["loss"]) for row in run]
    [(1, 2.0), (2, 1.5)]
    >>> run.model
    'the model of the state'
    """

    def __init__(self, rows: Rows, finish: Callable[[Any], Any]):
        """Wraps the rows of a loop.

        Args:
          rows: yields (steps completed, metrics), returns what `finish` takes.
          finish: makes the model of it; called once.
        """
        self._rows, self._finish, self._model = rows, finish, None
        self._ended = False

    def __iter__(self) -> "Run":
        return self

    def __next__(self) -> dict[str, Any]:
        """The next step's metrics, with "step": steps completed."""
        if self._ended:
            raise StopIteration
        try:
            step, metrics = next(self._rows)
        except StopIteration as end:
            self._ended, self._model = True, self._finish(end.value)
            raise StopIteration from None
        return {"step": step, **metrics}

    def result(self) -> Any:
        """The trained model; steps that nobody has asked for are run first."""
        for _ in self:
            pass
        return self._model

    @property
    def model(self) -> Any:
        """`result()`."""
        return self.result()
