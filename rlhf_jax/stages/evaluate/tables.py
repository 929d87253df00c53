"""What is measured of each policy: preference, gold utility, proxy, reward and KL."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

from rlhf_jax.data import Prompt
from rlhf_jax.data.encoding import said_before
from rlhf_jax.evaluation.model_functions import ModelPolicy
from rlhf_jax.evaluation.preference.win_rates import (
    length_controlled_win_rate,
    win_rate,
)
from rlhf_jax.evaluation.statistics.degeneration import word_counts
from rlhf_jax.evaluation.statistics.scores import Score
from rlhf_jax.evaluation.suites.world import (
    gold_scores,
    gold_utilities,
    labeler_panel,
    world_preference,
)
from rlhf_jax.feedback import load_labelers
from rlhf_jax.registry import LoadedModel, Reward, load_model, score_records
from rlhf_jax.stages.evaluate.config import Config


def make_policy(config: Config, name: str, model: LoadedModel) -> ModelPolicy:
    """A loaded model as something that answers, at temperature 1, and scores."""
    return ModelPolicy(
        name,
        model.with_config(residual_dropout=0.0),
        max_new_tokens=config.max_response,
        batch_size=64,
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
                "win_rate": win_rate(compared).document(),
                "length_controlled": controlled.document(),
            }
    return found


def gold_table(
    prompts: Sequence[Prompt], samples: dict[str, list[str]]
) -> dict[str, dict[str, Any]]:
    """Gold utility, its criteria and the length of each policy's samples."""
    table: dict[str, dict[str, Any]] = {}
    for name, responses in samples.items():
        scores = gold_scores(prompts, responses)
        table[name] = {s.metric: s.interval().document() for s in scores}
        ids = [prompt.id for prompt in prompts]
        score = Score("gold", "words", word_counts(responses), clusters=ids)
        table[name]["words"] = score.interval().document()
    return table


def proxy_scores(
    reward: Reward, prompts: Sequence[Prompt], samples: dict[str, list[str]]
) -> dict[str, Any]:
    """The reward model's score of each policy's samples."""
    ids = [prompt.id for prompt in prompts]
    found = {}
    for name, rows in samples.items():
        values = score_records(reward, prompts, rows)
        score = Score("proxy", "score", values, clusters=ids)
        found[name] = {
            **score.interval().document(),
            "values": [round(float(value), 4) for value in values],
        }
    return found


def frontier(
    config: Config,
    prompts: Sequence[Prompt],
    reward: Reward | None,
    options: dict[str, Any],
) -> dict[str, list[dict]]:
    """(√KL, proxy, gold) of every PPO snapshot, and of best-of-n.

    Args:
      config: the settings.
      prompts: to be answered.
      options: `mesh` and `light` of `load_model`.
    """
    found: dict[str, list[dict]] = {}
    if config.best_of_n:
        frontier_file = pathlib.Path(config.best_of_n)
        found["best of n"] = json.loads(frontier_file.read_text())["points"]
    if reward is None:
        return found
    some = list(prompts[: config.frontier_prompts])
    texts = [said_before(prompt) for prompt in some]
    for name, folder in config.runs.items():
        found[name] = []
        for path in sorted(pathlib.Path(folder).glob("snapshots/*/model.json")):
            model = load_model(path.parent, **options)
            model = model.in_form(some, where="evaluate.runs")
            written = make_policy(config, name, model).sample(texts, config.seed)
            found[name].append(
                {
                    "name": path.parent.name,
                    "kl": model.meta["kl"],
                    "proxy": float(score_records(reward, some, written).mean()),
                    "gold": float(gold_utilities(some, written).mean()),
                }
            )
    return found
