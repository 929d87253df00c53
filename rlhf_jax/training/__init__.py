"""One update and one loop for every stage.

state      TrainState: params, opt_state, EMA, step, key, counters, a stage's extra
optimizer  OptimizerConfig -> optax transformation (Adam, AdamW, RMSprop)
schedules  learning rate as a function of the update count
gradients  weights over the global batch; gradients per term, micro-batched
update     make_update: loss and optimizer -> (state, batch) -> (state, metrics)
loop       training_rows, run_loop, resume_or_init: steps, metrics, checkpoints
session    the mesh, store and tracker of one stage; fit
settings   RunSettings: how to run, not what to compute
identity   what a run must agree with to go on: its config, paths by their contents
rows       Run: a training run that is asked for its metrics, one after the other
guards     Guards: bad batches, alarms, and when to stop
alarms     declarative alarms over the history of the metrics
signals    SIGTERM, SIGINT, SIGHUP -> a saved state and exit code 143
watchdog   a step that hangs -> stacks of all threads and a non-zero exit
"""

from rlhf_jax.training.alarms import Alarm, above, below, spike
from rlhf_jax.training.guards import Guards
from rlhf_jax.training.loop import (
    exhausted,
    resume_or_init,
    run_loop,
    training_rows,
)
from rlhf_jax.training.optimizer import OptimizerConfig, make_optimizer
from rlhf_jax.training.schedules import learning_rate_schedule
from rlhf_jax.training.signals import StepAbandoned, StopSignal
from rlhf_jax.training.state import LossScale, TrainState, first_loss_scale, init_state
from rlhf_jax.training.update import make_update
from rlhf_jax.training.watchdog import Watchdog

__all__ = [
    "Alarm",
    "Guards",
    "LossScale",
    "OptimizerConfig",
    "StepAbandoned",
    "StopSignal",
    "TrainState",
    "Watchdog",
    "above",
    "below",
    "exhausted",
    "first_loss_scale",
    "init_state",
    "learning_rate_schedule",
    "make_optimizer",
    "make_update",
    "resume_or_init",
    "run_loop",
    "spike",
    "training_rows",
]
