"""Every plot is one well-formed SVG element that holds its words and numbers."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from rlhf_jax.evaluation.reward_models.accuracy import Pairs, calibration
from rlhf_jax.evaluation.reward_models.overoptimization import FrontierPoint, fit_curve
from rlhf_jax.evaluation.statistics.intervals import Interval
from rlhf_jax.reports import figures

pytest.importorskip("matplotlib")


def frontier():
    d = np.linspace(0.2, 4, 8)
    gold = d * (1.5 - 0.8 * np.log(d))
    points = [
        FrontierPoint(f"step {n}", float(x**2), float(x), float(g))
        for n, (x, g) in enumerate(zip(d, gold, strict=True))
    ]
    return figures.kl_reward_frontier(
        {"PPO": points}, fits={"PPO": fit_curve("rl", d, gold)}
    )


def tax():
    loss = {"PPO": Interval(-0.2, -0.3, -0.1, 50, 50), "PPO-ptx": interval(-0.05)}
    return figures.alignment_tax_bars({"squad F1": loss, "drop F1": loss})


def interval(value):
    return Interval(value, value - 0.1, value + 0.1, 50, 50)


rng = np.random.default_rng(0)
PLOTS = {
    "learning curves": lambda: figures.learning_curves(
        {"loss": ([1, 2, 3], [3.0, np.nan, 1.0]), "valid": ([1, 3], [3.0, 2.0])},
        title="Loss & more",
        y="nats",
        log_y=True,
    ),
    "frontier": frontier,
    "histograms": lambda: figures.reward_histograms(
        {"sft": rng.normal(size=50), "ppo": np.append(rng.normal(1, 1, 50), np.nan)}
    ),
    "reliability": lambda: figures.reliability_diagram(
        calibration(Pairs(rng.normal(1, 1, 200), np.ones(200), ()))
    ),
    "win rates": lambda: figures.win_rate_bars(
        {"ppo": interval(0.7), "one prompt": Interval(0.5, -np.inf, np.inf, 1, 1)}
    ),
    "tax": tax,
}


@pytest.mark.parametrize("name", PLOTS)
def test_a_plot_is_one_svg_element_and_the_same_each_time(name):
    svg = PLOTS[name]()
    assert ET.fromstring(svg).tag.endswith("svg")
    assert "<script" not in svg and "http" not in re.sub(
        r'xmlns(:\w+)?="[^"]*"', "", svg
    )
    if name not in {"histograms", "reliability"}:  # those draw fresh numbers
        assert PLOTS[name]() == svg


def test_words_and_numbers_are_in_the_plots_as_text():
    assert "Loss &amp; more" in PLOTS["learning curves"]()
    assert "PPO, fit" in PLOTS["frontier"]()


def test_ids_of_two_plots_of_a_page_do_not_collide():
    ids = [
        set(re.findall(r'\bid="([^"]+)"', PLOTS[name]()))
        for name in ("tax", "win rates")
    ]
    assert ids[0] and not ids[0] & ids[1]


def test_a_reward_that_no_point_knows_has_no_line():
    points = [FrontierPoint(str(n), float(n), float("nan"), float(n)) for n in range(3)]
    drawn = figures.kl_reward_frontier({"PPO": points})
    assert "PPO, gold" in drawn and "PPO, proxy" not in drawn
