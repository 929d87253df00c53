"""Plots as SVG text; matplotlib loads only when one is drawn.

Each function takes numbers and gives the text of an <svg> element that can be put in a
page or saved to a file. The same numbers give the same bytes.
"""

import contextlib
import hashlib
import io
import re
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from rlhf_jax.errors import InputError
from rlhf_jax.evaluation.reward_models.accuracy import Calibration
from rlhf_jax.evaluation.reward_models.overoptimization import Fit, FrontierPoint
from rlhf_jax.evaluation.statistics.intervals import Interval
from rlhf_jax.literal import literal
from rlhf_jax.reports.tables import Html

# distinguishable also by people who see no red or green (Okabe & Ito 2008)
_NAMED = "name "  # before a label: matplotlib leaves out those that begin with _
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#555555")


class Canvas:
    """A figure while it is drawn; `svg` is its text once the block has ended."""

    def __init__(self, axes, figure):
        self.axes, self.figure, self.svg = axes, figure, ""


@contextlib.contextmanager
def canvas(title: str, x: str, y: str, *, width: float = 6.4, height: float = 3.8):
    """A titled pair of axes; gives a `Canvas`.

    Raises:
      InputError: matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError:
        raise InputError(
            "plots need matplotlib: pip install 'rlhf_jax[report]'"
        ) from None
    title, x, y = literal(title), literal(x), literal(y)
    settings = {"svg.hashsalt": title, "svg.fonttype": "none", "font.size": 10}
    settings["text.parse_math"] = False  # a $ is a $
    with rc_context(settings):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots()
        axes.set(title=title, xlabel=x, ylabel=y)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        found = Canvas(axes, figure)
        yield found
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None})
        found.svg = Html(_element(stream.getvalue(), title))


def _element(text: str, title: str) -> str:
    """The <svg> element alone, with ids of its own, so that many fit in one page."""
    text = text[text.index("<svg") :].strip()
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    digest = hashlib.sha256(title.encode()).hexdigest()[:6]
    prefix = "f" + re.sub(r"\W", "", title, flags=re.ASCII)[:24] + digest + "_"
    text = re.sub(r'\bid="', f'id="{prefix}', text)
    text = re.sub(r'href="#', f'href="#{prefix}', text)
    return text.replace("url(#", f"url(#{prefix}")


def _named(name: str) -> str:
    return _NAMED + name


def _legend(axes) -> None:
    handles, names = axes.get_legend_handles_labels()
    if handles:
        names = [literal(name).removeprefix(_NAMED) for name in names]
        drawn = axes.legend(handles, ["-"] * len(names), frameon=False, fontsize=9)
        for shown, name in zip(drawn.get_texts(), names, strict=True):
            shown.set_text(name)


def learning_curves(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    title: str,
    x: str = "step",
    y: str,
    log_y: bool = False,
) -> str:
    """Lines of a metric over steps.

    Args:
      series: name -> (steps [N], values [N]); values that are not finite leave a gap.
      title, x, y: words on the plot, y with its unit.
      log_y: logarithmic vertical axis.
    """
    with canvas(title, x, y) as drawn:
        for i, (name, (steps, values)) in enumerate(series.items()):
            values = np.asarray(values, float)
            values = np.where(np.isfinite(values), values, np.nan)
            colour = COLOURS[i % len(COLOURS)]
            dots = "." if len(values) <= 30 else None
            label = _named(name)
            drawn.axes.plot(steps, values, marker=dots, label=label, color=colour)
        if log_y:
            drawn.axes.set_yscale("log")
        _legend(drawn.axes)
    return drawn.svg


def kl_reward_frontier(
    runs: Mapping[str, Sequence[FrontierPoint]],
    *,
    fits: Mapping[str, Fit] | None = None,
    title: str = "Reward against distance from the initial policy",
) -> str:
    """Gold (solid) and proxy (dashed) reward over √KL, with the fitted gold curves; a
    reward that no point knows is left out.

    Args:
      runs: name -> points, e.g. "PPO" and "best-of-n".
      fits: name -> fit of its gold reward; drawn dotted, its peak marked.
      title: of the plot.
    """
    with canvas(title, "√KL(π ‖ π_init)  [√nat]", "reward") as drawn:
        axes = drawn.axes
        for i, (name, points) in enumerate(runs.items()):
            points = sorted(points, key=lambda point: point.kl)
            colour = COLOURS[i % len(COLOURS)]
            d = np.array([p.distance for p in points])
            for kind, marks in (("gold", "o-"), ("proxy", "s--")):
                y = [getattr(point, kind) for point in points]
                if np.isfinite(y).any():
                    label = _named(f"{name}, {kind}")
                    axes.plot(d, y, marks, color=colour, label=label, ms=4)
            fit = (fits or {}).get(name)
            if fit is not None and len(d):
                line = np.linspace(0, d.max(), 100)
                label = _named(f"{name}, fit")
                axes.plot(line, fit(line), ":", color=colour, label=label)
                if 0 < fit.peak_distance <= d.max():
                    axes.axvline(fit.peak_distance, color=colour, alpha=0.3)
        _legend(axes)
    return drawn.svg


def reward_histograms(
    rewards: Mapping[str, Float[np.ndarray, "N"]],
    *,
    title: str = "Rewards of responses",
    num_bins: int = 40,
) -> str:
    """Distribution of rewards per policy over common bins."""
    everything = np.concatenate([np.asarray(r, float) for r in rewards.values()])
    edges = np.histogram_bin_edges(everything[np.isfinite(everything)], num_bins)
    with canvas(title, "reward", "share of responses") as drawn:
        for i, (name, values) in enumerate(rewards.items()):
            values = np.asarray(values, float)
            values = values[np.isfinite(values)]
            weights = np.full(len(values), 1 / max(1, len(values)))
            drawn.axes.hist(
                values,
                edges,
                weights=weights,
                label=_named(name),
                color=COLOURS[i % len(COLOURS)],
                alpha=0.55,
            )
        _legend(drawn.axes)
    return drawn.svg


def reliability_diagram(
    found: Calibration, *, title: str = "Calibration of the reward model"
) -> str:
    """Observed against predicted preference; on the diagonal where it is calibrated."""
    label = "P(preferred) predicted, σ(difference)"
    with canvas(title, label, "share preferred", width=4.6, height=4.2) as drawn:
        axes = drawn.axes
        axes.plot([0.5, 1], [0.5, 1], color="#999999", lw=1)
        sizes = 12 + 120 * found.counts / max(1, found.counts.max())
        axes.plot(found.predicted, found.observed, color=COLOURS[0], lw=1)
        axes.scatter(found.predicted, found.observed, s=sizes, color=COLOURS[0])
        axes.set(xlim=(0.48, 1.02), ylim=(min(0.35, found.observed.min() - 0.03), 1.03))
        axes.annotate(f"expected calibration error {found.error:.3f}", (0.5, 0.98))
    return drawn.svg


def win_rate_bars(
    rates: Mapping[str, Interval],
    *,
    title: str = "Win rate against the baseline",
    x: str = "win rate, ties half [%]",
) -> str:
    """A bar with its 95 % interval per policy; `rates` in [0, 1]; a line at 50 %."""
    names = list(rates)[::-1]
    height = 1.4 + 0.42 * len(names)
    with canvas(title, x, "", height=height) as drawn:
        _bars(drawn.axes, names, [rates[n].scaled(100) for n in names])
        drawn.axes.axvline(50, color="#333333", lw=1, ls="--")
        drawn.axes.set_xlim(0, 100)
    return drawn.svg


def alignment_tax_bars(
    differences: Mapping[str, Mapping[str, Interval]],
    *,
    title: str = "Alignment tax: difference to the pretrained model",
    x: str = "difference (higher is better)",
) -> str:
    """Per metric a bar per policy: the paired difference and its interval.

    Args:
      differences: metric -> policy -> difference.
      title, x: words on the plot.
    """
    policies = list(dict.fromkeys(p for cells in differences.values() for p in cells))
    height = 1.4 + 0.24 * sum(len(cells) + 1 for cells in differences.values())
    with canvas(title, x, "", height=height) as drawn:
        axes, place, ticks = drawn.axes, 0.0, {}
        for metric, cells in reversed(differences.items()):
            start = place
            for policy in reversed([p for p in policies if p in cells]):
                one, colour = cells[policy], policies.index(policy) % len(COLOURS)
                axes.barh(place, one.estimate, color=COLOURS[colour], alpha=0.8)
                _whisker(axes, one, place)
                place += 1
            ticks[(start + place - 1) / 2] = metric
            place += 0.8
        axes.set_yticks(list(ticks), [literal(name) for name in ticks.values()])
        axes.axvline(0, color="#333333", lw=1)
        for i, policy in enumerate(policies):
            axes.barh(0, 0, color=COLOURS[i % len(COLOURS)], label=_named(policy))
        _legend(axes)
    return drawn.svg


def _bars(axes, names: Sequence[str], intervals: Sequence[Interval]) -> None:
    places = range(len(names))
    estimates = [i.estimate for i in intervals]
    axes.barh(places, estimates, color=COLOURS[0], alpha=0.75)
    axes.set_yticks(places, [literal(name) for name in names])
    for place, interval in enumerate(intervals):
        _whisker(axes, interval, place)


def _whisker(axes, interval: Interval, place: float) -> None:
    if np.isfinite([interval.low, interval.high]).all():
        axes.plot([interval.low, interval.high], [place] * 2, color="#222222", lw=1.5)
