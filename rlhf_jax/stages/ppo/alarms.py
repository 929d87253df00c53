"""What goes wrong in RL from human feedback, watched every iteration."""

from rlhf_jax.stages.ppo.config import Config
from rlhf_jax.training import Alarm, above
from rlhf_jax.training.alarms import below, collapses, drifts, lasts

__all__ = ["alarms"]


def alarms(config: Config) -> tuple[Alarm, ...]:
    """The alarms of a run."""
    return (
        above("kl", config.max_kl, action="stop"),
        below("kl_exact", -0.01),
        above("truncated", 0.9),
        above("repetition", 0.5),
        above("sampler_gap_max", 0.5),
        above("bad_scores", 0.0),
        # no response has a score: nothing is learned any more
        lasts(above("bad_scores", config.batch_size - 0.5), 3),
        # a policy that only ends: its end token is all that it writes
        lasts(below("length", 1.5), 3, action="warn"),
        below("value_explained_variance", -1.0),
        drifts("length", 3.0),
        collapses("score"),
    )
