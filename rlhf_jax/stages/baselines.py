"""A reward model on held-out human rankings, beside what needs no reward model.

chance          0.5
length          longer is better, or shorter, as the training rankings say
bag of words    a linear reward on words, fitted to the same training rankings

Each set of rankings is told apart by its source, because pooled accuracy hides that
one set decides it. Where the reward model does not beat a baseline (the 95 % interval
of the paired difference holds 0), the results say so.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from rlhf_jax.data import Ranking, Text
from rlhf_jax.data.account import Account
from rlhf_jax.data.encoding import said_before
from rlhf_jax.data.inputs import read_prompts, read_told
from rlhf_jax.evaluation.model_functions import ModelPolicy
from rlhf_jax.evaluation.reward_models.accuracy import pairs_of, score_rankings
from rlhf_jax.evaluation.reward_models.bag_of_words import (
    fit_preference,
    length_preference,
)
from rlhf_jax.evaluation.statistics.degeneration import word_counts
from rlhf_jax.evaluation.statistics.intervals import paired_interval, rate_interval
from rlhf_jax.fields import DataFile, Folder, ModelName, RewardName
from rlhf_jax.registry import (
    Reward,
    load_model,
    load_reward,
    reward_account,
    score_records,
)
from rlhf_jax.schema import at_least, distinct
from rlhf_jax.stages.likelihood import held_out_score
from rlhf_jax.storage import beside, write_json, write_lines
from rlhf_jax.training.session import RunSettings, tell_rows


@dataclasses.dataclass
class Config:
    """Settings of the comparison."""

    # model directory of the reward model
    reward: RewardName
    # files of the rankings that it was trained on: they fit the baselines
    rankings: tuple[DataFile, ...]
    # files of rankings held out from both
    held_out: tuple[DataFile, ...]
    # `report.json` of the preparation, shown with the results; None: none
    preparation: Folder | None = None
    # policies by name, the first of which is the pretrained one; may be empty
    names: tuple[str, ...] = ()
    # their model directories, in the same order
    policies: tuple[ModelName, ...] = ()
    # held-out prompts and text for the policies
    prompts: tuple[DataFile, ...] = ()
    # files of held-out text for the policies
    texts: tuple[DataFile, ...] = ()
    # prompts at most
    max_prompts: int = 100
    # directories of PPO stages, and of others, by name: for learning curves
    runs: dict[str, Folder] = dataclasses.field(default_factory=dict)
    # directories of other stages by name, for learning curves
    stages: dict[str, Folder] = dataclasses.field(default_factory=dict)
    # longest prompt in tokens
    max_prompt: int = 1000
    # longest response in tokens, its end token included
    max_response: int = 1000
    # tokens of a window of held-out text
    window: int = 256
    # of all that is drawn at random
    seed: int = 0

    def problems(self) -> Iterator[str]:
        """What cannot work, one line each."""
        yield from distinct(self, "names")
        if len(self.names) != len(self.policies):
            yield f"names: {len(self.names)} names for {len(self.policies)} policies"
        yield from at_least(self, 1, "max_prompts", "window")
        yield from at_least(self, 1, "max_prompt", "max_response")
        if self.names and not (self.prompts and self.texts):
            yield "prompts: policies need held-out prompts and texts"


def run(
    config: Config, workdir: str | pathlib.Path, settings: RunSettings | None = None
) -> pathlib.Path:
    """Writes `results.json` and, with policies, `samples.jsonl`; returns the first."""
    settings = settings or RunSettings()
    options = {"mesh": settings.make_mesh(), "light": settings.light}
    workdir = pathlib.Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    told = [Account("rankings"), Account("held-out rankings")]
    train = _with_pairs(config.rankings, told[0])
    held_out = _with_pairs(config.held_out, told[1])
    reward = load_reward(
        config.reward,
        max_prompt=config.max_prompt,
        max_response=config.max_response,
        batch_size=32,
        **options,
    )
    rewards = {
        "reward model": reward.score,
        "length": length_preference(train),
        "bag of words": fit_preference(train),
    }
    results: dict[str, Any] = {
        "report": "baselines",
        "accuracy": {
            source: compared(rewards, rows)
            for source, rows in by_source(held_out).items()
        },
        "training_rankings": {s: len(r) for s, r in by_source(train).items()},
        "stages": beside(config.stages, workdir),
        "runs": beside(config.runs, workdir),
        "names": list(config.names),
    }
    if config.preparation:
        results["preparation"] = json.loads(
            pathlib.Path(config.preparation).read_text()
        )
    if config.names:
        results["policies"] = _policies(config, reward, workdir, told, options)
    tell_rows([*told, reward_account(reward)], workdir)
    target = workdir / "results.json"
    write_json(target, results)
    return target


def _with_pairs(files: Sequence[str], account: Account) -> list[Ranking]:
    """The rankings that are not all tied."""
    rankings = read_told(files, Ranking, account)
    kept = [ranking for ranking in rankings if ranking.pairs]
    account.drop("as all responses are tied", len(rankings) - len(kept))
    return kept


def by_source(rankings: Sequence[Ranking]) -> dict[str, list[Ranking]]:
    """ "all" and each source -> its rankings."""
    found: dict[str, list[Ranking]] = {"all": list(rankings)}
    for ranking in rankings:
        found.setdefault(ranking.source or "unnamed", []).append(ranking)
    return found


def compared(
    rewards: dict[str, Callable], rankings: Sequence[Ranking]
) -> dict[str, Any]:
    """Accuracy of each reward, and the first one's lead over the others and chance.

    Args:
      rewards: name -> `(prompts, responses) -> scores`; the first is the reward model.
      rankings: held out, each with a pair that is not tied.

    Returns:
      "rankings", "pairs"; "accuracy": name -> interval; "lead": name -> paired
      difference of accuracies; "verdict": name -> "beats", "not told apart from" or
      "is beaten by".
    """
    right, prompts = {}, ()
    for name, reward in rewards.items():
        pairs = pairs_of(rankings, score_rankings(reward, rankings))
        prompts = pairs.prompts
        right[name] = np.where(pairs.margins == 0, 0.5, pairs.margins > 0)
    right["chance"] = np.full(len(prompts), 0.5)
    first, *others = right
    leads = {n: paired_interval(right[first], right[n], prompts) for n in others}
    verdicts = {
        name: "beats"
        if lead.low > 0
        else "is beaten by"
        if lead.high < 0
        else "not told apart from"
        for name, lead in leads.items()
    }
    return {
        "rankings": len(rankings),
        "pairs": len(prompts),
        "accuracy": {
            name: rate_interval(values, prompts).document()
            for name, values in right.items()
            if name != "chance"
        },
        "lead": {name: lead.document() for name, lead in leads.items()},
        "verdict": verdicts,
    }


def _policies(
    config: Config,
    reward: Reward,
    workdir: pathlib.Path,
    told: list[Account],
    options: dict[str, Any],
) -> dict[str, dict[str, Any]]:
    """Reward, length and held-out likelihood of each policy, and what it wrote."""
    asked, read = Account("prompts"), Account("held-out texts")
    told += [asked, read]
    prompts = read_prompts(config.prompts, asked)
    prompts = asked.first(prompts, "max_prompts", config.max_prompts)
    held_out_texts = read_told(config.texts, Text, read)
    texts = [said_before(prompt) for prompt in prompts]
    found, written = {}, {}
    for name, path in zip(config.names, config.policies, strict=True):
        model = load_model(path, **options)
        model = model.in_form(prompts, where="baselines.policies")
        policy = ModelPolicy(
            name,
            model.with_config(residual_dropout=0.0),
            max_new_tokens=config.max_response,
            batch_size=25,
        )
        written[name] = policy.sample(texts, config.seed)
        asked.cut_by_any("at the beginning to the context", policy.truncated)
        held_out = held_out_score(model, held_out_texts, config.window)
        found[name] = {
            "reward": rate_interval(
                score_records(reward, prompts, written[name])
            ).document(),
            "words": rate_interval(word_counts(written[name])).document(),
            "held_out_nats_per_token": held_out.interval().document(),
        }
    lines = (
        {
            "id": prompt.id,
            "prompt": prompt.prompt,
            "responses": {name: rows[i] for name, rows in written.items()},
        }
        for i, prompt in enumerate(prompts)
    )
    write_lines(workdir / "samples.jsonl", lines)
    return found
