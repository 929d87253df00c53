"""What goes wrong in RL from human feedback, watched every iteration."""

from rlhf_jax.stages.ppo.config import Config
from rlhf_jax.training import Alarm, above
from rlhf_jax.training.alarms import below

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
        below("value_explained_variance", -1.0),
        _drifts("length", 3.0),
        _collapses("score"),
    )


def _drifts(metric: str, factor: float) -> Alarm:
    """Fires when a mean has moved by `factor` from that of the first iterations."""

    def when(history: tuple) -> str | None:
        first, last = history[0].get(metric), history[-1].get(metric)
        if not first or not last or 1 / factor <= last / first <= factor:
            return None
        return f"{metric} went from {first:.4g} to {last:.4g}"

    return Alarm(f"{metric} drifts", when)


def _collapses(metric: str, window: int = 20) -> Alarm:
    """Fires when the mean of the last steps is two spreads below the best before."""

    def when(history: tuple) -> str | None:
        values = [row[metric] for row in history if metric in row]
        if len(values) < 2 * window:
            return None
        means = [
            sum(values[i : i + window]) / window
            for i in range(0, len(values) - window + 1, window)
        ]
        spread = max(history[-1].get(f"{metric}_std", 0.0), 1e-6)
        if means[-1] >= max(means) - 2 * spread:
            return None
        return f"{metric} fell from {max(means):.4g} to {means[-1]:.4g}"

    return Alarm(f"{metric} collapses", when)
