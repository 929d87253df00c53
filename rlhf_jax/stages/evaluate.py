"""The evaluation of a run on the embedded world: the paper's tables, in small.

Preference against a fixed baseline, by gold utility and by labelers who trained
nothing; the alignment tax, as held-out text and held-out skills; truth, toxicity,
bias, hallucination; and reward against KL. `results.json` holds every number,
`samples.jsonl` what the policies wrote.
"""

import dataclasses
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from rlhf_jax.data import Prompt
from rlhf_jax.evaluation.intervals import Interval
from rlhf_jax.evaluation.policy import Policy, model_policy
from rlhf_jax.evaluation.preference import length_controlled_win_rate, win_rate
from rlhf_jax.evaluation.scores import Score
from rlhf_jax.evaluation.tables import alignment_tax
from rlhf_jax.evaluation.world import (
    gold_scores,
    gold_utilities,
    labeler_panel,
    world_bias,
    world_hallucination,
    world_preference,
    world_skills,
    world_toxicity,
    world_truth,
)
from rlhf_jax.feedback import load_labelers
from rlhf_jax.stages.ensemble import Combination, load_reward
from rlhf_jax.stages.hand_over import LoadedModel, load_model
from rlhf_jax.stages.inputs import numeric, one_epoch, read_prompts, text_stream
from rlhf_jax.stages.likelihood import sequence_logprobs
from rlhf_jax.stages.scoring import make_text_reward
from rlhf_jax.stages.session import RunSettings

__all__ = ["Config", "run"]


@dataclasses.dataclass
class Config:
    """Settings of the evaluation."""

    # names of the policies, the first of which is the pretrained model
    names: tuple[str, ...]
    # their model directories, in the same order
    policies: tuple[str, ...]
    # directory of the embedded world's files
    world: str
    # the policy that the others are compared with (the paper's is SFT)
    baseline: str = "SFT"
    # model directory of the reward model; None: no proxy scores
    reward: str | None = None
    # directories of PPO stages by policy name: their metrics and snapshots are read
    runs: dict[str, str] = dataclasses.field(default_factory=dict)
    # directories of other stages by name, for the report's learning curves
    stages: dict[str, str] = dataclasses.field(default_factory=dict)
    # frontier of the best-of-n stage; None: none
    best_of_n: str | None = None
    # who judges preference besides the gold utility
    labelers: str = "simulated:held_out"
    # held-out prompts; sampled at temperature 1 (App. F of the paper)
    max_prompts: int = 200
    # prompts for each snapshot's place in reward against KL
    frontier_prompts: int = 96
    # examples per held-out skill
    skill_examples: int = 60
    # seed of the embedded world
    world_seed: int = 0
    max_prompt: int = 96
    max_response: int = 48
    # tokens of a held-out window of pretraining text, and how many
    window: int = 144
    max_windows: int = 192
    # of an ensemble: how its members' scores become one, "mean", "min" or
    # "uncertainty_weighted" with this λ; a single model has no need of it
    ensemble: Combination = "mean"
    variance_coef: float = 0.1
    seed: int = 0

    def problems(self) -> Iterator[str]:
        """What cannot work, one line each."""
        if len(self.names) != len(self.policies):
            yield f"names: {len(self.names)} names for {len(self.policies)} policies"
        if self.baseline not in self.names:
            yield f"baseline: {self.baseline!r} is not one of {', '.join(self.names)}"
        for name in self.runs:
            if name not in self.names:
                yield f"runs: {name!r} is not one of {', '.join(self.names)}"


def run(
    config: Config, workdir: str | pathlib.Path, settings: RunSettings | None = None
) -> pathlib.Path:
    """Writes `results.json` and `samples.jsonl`; returns the first."""
    del settings
    workdir = pathlib.Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    models = {
        name: load_model(path)
        for name, path in zip(config.names, config.policies, strict=True)
    }
    prompts = read_prompts((f"{config.world}/prompts.test.jsonl",))
    prompts = prompts[: config.max_prompts]
    policies = {name: _policy(config, name, model) for name, model in models.items()}
    samples = {
        name: policy.sample([p.prompt for p in prompts], config.seed)
        for name, policy in policies.items()
    }
    closed = any(prompt.meta.get("closed_domain") for prompt in prompts)
    tax = alignment_tax(
        {
            name: [
                held_out_text(config, models[name]),
                *world_skills(
                    policy, seed=config.world_seed, count=config.skill_examples
                ),
                *world_truth(policy, seed=config.world_seed),
                *world_toxicity(policy, seed=config.world_seed),
                *world_bias(policy),
                *(world_hallucination(policy, prompts) if closed else ()),
            ]
            for name, policy in policies.items()
        },
        baseline=config.names[0],
    )
    results = {
        "names": list(config.names),
        "baseline": config.baseline,
        "stages": dict(config.stages),
        "runs": dict(config.runs),
        "preference": preference(config, prompts, samples),
        "gold": gold_table(prompts, samples),
        "alignment_tax": tax.document(),
        "frontier": frontier(config, prompts, models),
    }
    if config.reward:
        results["proxy"] = proxy_scores(config, prompts, samples)
    _write_samples(workdir / "samples.jsonl", prompts, samples)
    target = workdir / "results.json"
    target.write_text(json.dumps(results, indent=2) + "\n")
    return target


def _policy(config: Config, name: str, model: LoadedModel) -> Policy:
    return model_policy(
        name,
        model.with_config(residual_dropout=0.0).model,
        model.params,
        model.tokenizer,
        max_new_tokens=config.max_response,
        batch_size=32,
    )


def held_out_text(config: Config, model: LoadedModel) -> Score:
    """-log p per token of pretraining text that nobody trained on; lower is better."""
    stream = text_stream(
        (f"{config.world}/pretraining.valid.jsonl",),
        model.tokenizer,
        config.window,
        batch_size=32,
        seed=0,
    )
    logprobs = jax.jit(
        lambda params, batch: sequence_logprobs(model.model, params, batch)
    )
    sums: list[np.ndarray] = []
    for batch in one_epoch(stream):
        values = np.asarray(logprobs(model.params, numeric(batch)))
        mask = batch["mask"][:, 1:]
        nats = np.where(mask, -values, 0.0).sum(axis=1)
        sums.append(np.stack([nats, mask.sum(axis=1)], axis=1)[mask.any(axis=1)])
        if sum(map(len, sums)) >= config.max_windows:
            break
    return Score(
        "held-out text",
        "nats per token",
        np.concatenate(sums)[: config.max_windows],
        statistic=lambda totals: totals[..., 0] / np.maximum(totals[..., 1], 1),
        higher_is_better=False,
    )


def preference(
    config: Config, prompts: Sequence[Prompt], samples: dict[str, list[str]]
) -> dict[str, dict[str, Any]]:
    """Win rates against the baseline by each judge, with 95 % intervals."""
    labelers = load_labelers(config.labelers, seed=config.world_seed)
    judges = {"gold utility": None, config.labelers: labeler_panel(labelers)}
    found: dict[str, dict[str, Any]] = {}
    for judge_name, judge in judges.items():
        found[judge_name] = {}
        for name, responses in samples.items():
            if name == config.baseline:
                continue
            compared = world_preference(
                prompts, responses, samples[config.baseline], judge
            )
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
        table[name]["words"] = _interval(Score("gold", "words", words).interval())
    return table


def proxy_scores(
    config: Config, prompts: Sequence[Prompt], samples: dict[str, list[str]]
) -> dict[str, Any]:
    """The reward model's score of each policy's samples."""
    reward = _reward(config)
    texts = [prompt.prompt for prompt in prompts]
    return {
        name: {
            **_interval(Score("proxy", "score", reward(texts, rows)).interval()),
            "values": [round(float(value), 4) for value in reward(texts, rows)],
        }
        for name, rows in samples.items()
    }


def _reward(config: Config) -> Any:
    return make_text_reward(
        load_reward(
            config.reward,
            combination=config.ensemble,
            variance_coef=config.variance_coef,
        ),
        max_prompt=config.max_prompt,
        max_response=config.max_response,
    )


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
    reward, some = _reward(config), list(prompts[: config.frontier_prompts])
    texts = [prompt.prompt for prompt in some]
    for name, folder in config.runs.items():
        found[name] = []
        for path in sorted(pathlib.Path(folder).glob("snapshots/*/model.json")):
            model = load_model(path.parent)
            written = _policy(config, name, model).sample(texts, config.seed)
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


def _write_samples(
    path: pathlib.Path, prompts: Sequence[Prompt], samples: dict[str, list[str]]
) -> None:
    with path.open("w", encoding="utf-8") as file:
        for i, prompt in enumerate(prompts):
            line = {"id": prompt.id, "use_case": prompt.use_case}
            line["prompt"] = prompt.prompt
            line["responses"] = {name: rows[i] for name, rows in samples.items()}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
