"""Best-of-n: optimising the same reward without training, PPO's first baseline.

    KL(best of n ‖ policy) = log n - (n - 1)/n        nats, exactly

N responses are drawn per prompt; the unbiased estimator gives the expected reward of
best-of-n for every n up to N from the same draws.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from rlhf_jax.data import Prompt
from rlhf_jax.data.account import Account
from rlhf_jax.data.encoding import said_before
from rlhf_jax.data.inputs import fitting, read_prompts
from rlhf_jax.errors import InputError
from rlhf_jax.evaluation.reward_models.overoptimization import best_of_n_frontier
from rlhf_jax.experience import Writer
from rlhf_jax.fields import DataFile, ModelName, RewardName
from rlhf_jax.registry import (
    Combination,
    LoadedModel,
    load_model,
    require_language_model,
    reward_account,
    reward_of,
)
from rlhf_jax.sampling.randomness import named_key
from rlhf_jax.schema import at_least, positive
from rlhf_jax.storage import replacing, write_json
from rlhf_jax.training.session import RunSettings, portable, tell_rows


@dataclasses.dataclass
class Config:
    """Settings of best-of-n."""

    # model directory of the policy that writes
    policy: ModelName
    # what chooses: a reward model, an ensemble, or "python:FILE.py:NAME"
    reward: RewardName
    # files of prompts
    prompts: tuple[DataFile, ...]
    # responses per prompt, which is read once for all of them: the largest n
    samples: int = 64
    # most prompts taken; None: all
    max_prompts: int | None = 128
    # longest prompt in tokens
    max_prompt: int = 1000
    # longest response in tokens, its end token included
    max_response: int = 1000
    # of sampling
    temperature: float = 1.0
    # token ids that end a response; empty: the tokenizer's end token
    end_tokens: tuple[int, ...] = ()
    # measure the chosen responses by the embedded world's gold utility too
    gold: bool = False
    # rows sampled together
    batch_size: int = 128
    # of an ensemble: how its members' scores become one, "mean", "min" or
    # "uncertainty_weighted" with this λ; ignored for a single model
    ensemble: Combination = "mean"
    # λ of "uncertainty_weighted"
    variance_coef: float = 0.1
    # of all that is drawn at random
    seed: int = 0

    def problems(self) -> Iterator[str]:
        """What cannot work, one line each."""
        yield from at_least(self, 1, "samples", "max_prompts", "batch_size")
        yield from at_least(self, 1, "max_prompt", "max_response")
        yield from at_least(self, 0, "variance_coef")
        if self.samples > 1 or self.temperature < 0:  # 0 is greedy: one response
            yield from positive(self, "temperature")
        if not self.prompts:
            yield "prompts: at least one file is needed"


def run(
    config: Config, workdir: str | pathlib.Path, settings: RunSettings | None = None
) -> pathlib.Path:
    """Writes `best_of_n.json` (a frontier) and `samples.jsonl` (every response with
    its score, and the best); returns the first."""
    settings = settings or RunSettings()
    mesh = settings.make_mesh()
    options = {"mesh": mesh, "light": settings.light}
    workdir = pathlib.Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    reward = reward_of(config, **options)
    policy = load_model(config.policy, **options)
    policy = require_language_model(policy, "best_of_n.policy")
    account = Account("prompts")
    prompts = read_prompts(config.prompts, account)
    policy = policy.in_form(prompts, where="best_of_n.policy")
    prompts = fitting(prompts, policy.form, config.max_prompt, account)
    prompts = account.first(prompts, "max_prompts", config.max_prompts)
    tell_rows([account], workdir)
    flat = _written(config, policy, prompts, workdir, mesh)
    proxy = reward.score(
        [prompt.prompt for prompt in prompts for _ in range(config.samples)],
        flat,
        [prompt.model_dump() for prompt in prompts for _ in range(config.samples)],
    ).reshape(len(prompts), config.samples)
    tell_rows([reward_account(reward)], workdir, more=True)
    if missing := int(np.isnan(proxy).sum()):
        raise InputError(
            f"best_of_n.reward: no score for {missing} of {proxy.size} responses: "
            "expected a number for each, to choose by"
        )
    responses = np.array(flat, object).reshape(proxy.shape).tolist()
    gold = _gold(prompts, responses) if config.gold else np.zeros_like(proxy)
    points = [dataclasses.asdict(p) for p in best_of_n_frontier(proxy, gold)]
    _write_samples(workdir / "samples.jsonl", prompts, responses, proxy)
    target = workdir / "best_of_n.json"
    write_json(target, {"gold": config.gold, "points": points})
    return target


def _written(
    config: Config,
    policy: LoadedModel,
    prompts: Sequence[Prompt],
    workdir: pathlib.Path,
    mesh: Mesh,
) -> list[str]:
    """N responses to each prompt; response j to prompt i is number i·N + j."""
    writer = Writer(
        policy,
        config.max_response,
        config.max_prompt,
        config.temperature,
        config.end_tokens,
        config.batch_size,
        mesh,
    )
    asked = json.dumps(portable(config, workdir.parent), sort_keys=True)
    return writer.resumed(
        workdir / "written.jsonl",
        hashlib.sha256(asked.encode()).hexdigest(),
        [said_before(prompt) for prompt in prompts],
        named_key(jax.random.key(config.seed), "best of n"),
        copies=config.samples,
    )


def _gold(prompts: Sequence[Prompt], responses: list[list[str]]) -> np.ndarray:
    from rlhf_jax.simulation import utility

    return np.array(
        [
            [utility(prompt, text).total for text in row]
            for prompt, row in zip(prompts, responses, strict=True)
        ],
        np.float32,
    )


def _write_samples(
    path: pathlib.Path, prompts: Any, responses: Any, proxy: np.ndarray
) -> None:
    with replacing(path) as file:
        for prompt, row, scores in zip(prompts, responses, proxy, strict=True):
            best = int(np.argmax(scores))
            line = {"id": prompt.id, "prompt": prompt.prompt, "best": row[best]}
            line["score"] = float(scores[best])
            line |= {"responses": row, "scores": scores.astype(float).tolist()}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
