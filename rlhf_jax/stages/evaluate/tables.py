"""What is measured of each policy: preference, gold utility, proxy, reward and KL."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from rlhf_jax.data import Prompt, Text
from rlhf_jax.data.inputs import read_rows
from rlhf_jax.evaluation.policy import Policy, model_policy
from rlhf_jax.evaluation.preference.win_rates import (
    length_controlled_win_rate,
    win_rate,
)
from rlhf_jax.evaluation.statistics.intervals import Interval
from rlhf_jax.evaluation.statistics.scores import Score
from rlhf_jax.evaluation.suites.world import (
    gold_scores,
    gold_utilities,
    labeler_panel,
    world_preference,
)
from rlhf_jax.feedback import load_labelers
from rlhf_jax.registry import LoadedModel, load_model, reward_of
from rlhf_jax.stages.evaluate.config import Config
from rlhf_jax.stages.likelihood import held_out_batches, nats_of_windows


def make_policy(config: Config, name: str, model: LoadedModel) -> Policy:
    """A loaded model as something that answers, at temperature 1, and scores."""
    return model_policy(
        name,
        _without_dropout(model),
        model.params,
        model.tokenizer,
        max_new_tokens=config.max_response,
        batch_size=64,
    )


def _without_dropout(model: LoadedModel) -> Any:
    """Policies of one shape are then the same model: each program compiles once."""
    return model.with_config(residual_dropout=0.0).model


def held_out_text(config: Config, model: LoadedModel) -> Score:
    """-log p per token of pretraining text that nobody trained on; lower is better."""
    texts = read_rows((f"{config.world}/pretraining.valid.jsonl",), Text)
    batches = held_out_batches(texts, model.tokenizer, config.window, 32)
    return Score(
        "held-out text",
        "nats per token",
        nats_of_windows(
            _without_dropout(model), model.params, batches, most=config.max_windows
        ),
        statistic=lambda totals: totals[..., 0] / np.maximum(totals[..., 1], 1),
        higher_is_better=False,
    )


def preference(
    prompts: Sequence[Prompt],
    samples: dict[str, list[str]],
    *,
    baseline: str,
    labelers: str,
    world_seed: int,
) -> dict[str, dict[str, Any]]:
    """Win rates against the baseline by gold utility and by labelers.

    Args:
      prompts: records of the world; one that comes again is the same cluster.
      samples: name of a policy -> its response to each prompt.
      baseline: the policy that the others are compared with.
      labelers: who else judges; see `feedback.load_labelers`.
      world_seed: of the labelers.

    Returns:
      judge -> policy -> "win_rate" and "length_controlled", shares from 0 to 1 in
      which a tie is a half, with 95 % intervals.
    """
    panel = labeler_panel(load_labelers(labelers, seed=world_seed))
    judges = {"gold utility": None, labelers: panel}
    found: dict[str, dict[str, Any]] = {}
    for judge_name, judge in judges.items():
        found[judge_name] = {}
        for name, responses in samples.items():
            if name == baseline:
                continue
            compared = world_preference(prompts, responses, samples[baseline], judge)
            controlled = length_controlled_win_rate(compared)
            found[judge_name][name] = {
                "win_rate": _interval(win_rate(compared)),
                "length_controlled": _interval(controlled),
            }
    return found


def gold_table(
    prompts: Sequence[Prompt], samples: dict[str, list[str]]
) -> dict[str, dict[str, Any]]:
    """Gold utility, its criteria and the length of each policy's samples."""
    table: dict[str, dict[str, Any]] = {}
    for name, responses in samples.items():
        scores = gold_scores(prompts, responses)
        table[name] = {s.metric: _interval(s.interval()) for s in scores}
        words = np.array([len(text.split()) for text in responses], float)
        ids = [prompt.id for prompt in prompts]
        score = Score("gold", "words", words, clusters=ids)
        table[name]["words"] = _interval(score.interval())
    return table


def proxy_scores(
    config: Config, prompts: Sequence[Prompt], samples: dict[str, list[str]]
) -> dict[str, Any]:
    """The reward model's score of each policy's samples."""
    reward = reward_of(config).score
    texts, ids = (
        [prompt.prompt for prompt in prompts],
        [prompt.id for prompt in prompts],
    )
    found = {}
    for name, rows in samples.items():
        values = reward(texts, rows)
        score = Score("proxy", "score", values, clusters=ids)
        found[name] = {
            **_interval(score.interval()),
            "values": [round(float(value), 4) for value in values],
        }
    return found


def frontier(
    config: Config, prompts: Sequence[Prompt], models: dict[str, LoadedModel]
) -> dict[str, list[dict]]:
    """(√KL, proxy, gold) of every PPO snapshot, and of best-of-n."""
    found: dict[str, list[dict]] = {}
    if config.best_of_n:
        found["best of n"] = json.loads(pathlib.Path(config.best_of_n).read_text())[
            "points"
        ]
    if not config.reward:
        return found
    reward, some = reward_of(config).score, list(prompts[: config.frontier_prompts])
    texts = [prompt.prompt for prompt in some]
    for name, folder in config.runs.items():
        found[name] = []
        for path in sorted(pathlib.Path(folder).glob("snapshots/*/model.json")):
            model = load_model(path.parent)
            written = make_policy(config, name, model).sample(texts, config.seed)
            found[name].append(
                {
                    "name": path.parent.name,
                    "kl": model.meta["kl"],
                    "proxy": float(reward(texts, written).mean()),
                    "gold": float(gold_utilities(some, written).mean()),
                }
            )
    return found


def _interval(interval: Interval) -> dict[str, float]:
    return {
        "estimate": interval.estimate,
        "low": interval.low,
        "high": interval.high,
        "items": interval.num_items,
    }
